// The tour of docs/tour.md with the client that openapi-generator's typescript-fetch makes of the contract.
//
// Run as `node fetch_tour.js URL`, with an administrator's ADMIN_EMAIL and ADMIN_PASSWORD, and the CLIENT_ADDRESS to
// come from, in the environment. It ends with an error at the first answer that is not as the contract promises.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import * as sdk from "./sdk/index.js";

const email = "fetch@concord.example";
const password = "seven green bicycles sing";
const minute = 60_000;

function configured(accessToken?: string): sdk.Configuration {
  return new sdk.Configuration({
    basePath: process.argv[2] ?? "",
    headers: { "X-Forwarded-For": process.env["CLIENT_ADDRESS"] ?? "" },
    ...(accessToken !== undefined && { accessToken }),
  });
}

const anyone = configured();

async function failed(call: Promise<unknown>): Promise<Response> {
  try {
    await call;
  } catch (error) {
    assert(error instanceof sdk.ResponseError);
    return error.response;
  }
  return assert.fail("the operation succeeds");
}

async function refused(code: sdk.ProblemSlug, call: Promise<unknown>): Promise<sdk.Problem> {
  const response = await failed(call);
  const problem = sdk.ProblemFromJSON(await response.json());
  assert.deepEqual([problem.code, problem.status], [code, response.status]);
  return problem;
}

async function signIn(credentials: sdk.Credentials): Promise<sdk.AccessToken> {
  return new sdk.AuthApi(anyone).createToken({ credentials });
}

async function register(): Promise<sdk.User> {
  const users = new sdk.UsersApi(anyone);
  const userCreate = { name: "Ada Lovelace", email, password };
  const user = await users.createUser({ userCreate });
  assert.deepEqual([user.role, user.active, user.createdAt instanceof Date], [sdk.Role.User, true, true]);
  await refused(sdk.ProblemSlug.EMAIL_TAKEN, users.createUser({ userCreate }));
  const nobody = { name: "", email: "nobody", password: "short" };
  const invalid = await refused(sdk.ProblemSlug.INVALID_BODY, users.createUser({ userCreate: nobody }));
  const pointers = invalid.errors?.map((violation) => violation.pointer);
  assert.deepEqual(new Set(pointers), new Set(["/name", "/email", "/password"]));
  return user;
}

async function refresh(token: sdk.AccessToken): Promise<sdk.Configuration> {
  const refreshRequest = { refreshToken: token.refreshToken };
  const next = await new sdk.AuthApi(anyone).refreshToken({ refreshRequest });
  assert.notEqual(next.accessToken, token.accessToken);
  return configured(next.accessToken);
}

async function changeName(me: sdk.Configuration): Promise<void> {
  const profile = new sdk.ProfileApi(me);
  const { raw } = await profile.getProfileRaw({});
  const etag = raw.headers.get("ETag") ?? "";
  assert.equal((await failed(profile.getProfile({ ifNoneMatch: etag }))).status, 304);
  const change = { profileUpdate: { name: "Ada King" }, ifMatch: etag };
  assert.equal((await profile.updateProfile(change)).name, "Ada King");
  await refused(sdk.ProblemSlug.VERSION_MISMATCH, profile.updateProfile(change));
}

async function pageToTheEnd(admin: sdk.Configuration): Promise<void> {
  const ids: number[] = [];
  const users = new sdk.UsersApi(admin);
  let cursor: string | null = null;
  do {
    const page: sdk.UserPage = await users.listUsers({ active: true, limit: 50, ...(cursor !== null && { cursor }) });
    ids.push(...page.items.map((user) => user.id));
    cursor = page.nextCursor;
  } while (cursor !== null);
  assert(ids.length > 100 && ids.length === new Set(ids).size);
}

async function sellKites(admin: sdk.Configuration): Promise<sdk.Product> {
  const price = { amount: 1999, currency: sdk.Currency.Eur };
  const productCreate = { sku: "KITE-WHITE", name: "White kite", price };
  const product = await new sdk.ProductsApi(admin).createProduct({ productCreate });
  const entry = await new sdk.StockApi(admin).createStockAdjustment({
    productId: product.id,
    idempotencyKey: randomUUID(),
    stockAdjustmentCreate: { quantity: 5, reason: "First delivery" },
  });
  assert.equal(entry.onHand, 5);
  const sort = sdk.ProductSort.PRICE_DESCENDING;
  const page = await new sdk.ProductsApi(anyone).listProducts({ q: "whi kit", inStock: true, sort });
  assert.deepEqual(page.items.map((item) => item.id), [product.id]);
  return product;
}

async function buy(me: sdk.Configuration, product: sdk.Product): Promise<sdk.Order> {
  const orders = new sdk.OrdersApi(me);
  const orderCreate = { lines: [{ productId: product.id, quantity: 4 }], metadata: { season: "spring" } };
  const request = { idempotencyKey: randomUUID(), orderCreate };
  const order = await orders.createOrder(request);
  assert.deepEqual([order.status, order.total.amount], [sdk.OrderStatus.Pending, 7996]);
  const again = await orders.createOrderRaw(request);
  assert.equal((await again.value()).id, order.id);
  assert.equal(again.raw.headers.get("Idempotent-Replayed"), "true");
  const another = orders.createOrder({ ...request, idempotencyKey: randomUUID() });
  const short = await refused(sdk.ProblemSlug.OUT_OF_STOCK, another);
  assert.deepEqual(short.shortages?.map((line) => line.available), [1]);
  return order;
}

async function findByTime(me: sdk.Configuration, order: sdk.Order): Promise<void> {
  const orders = new sdk.OrdersApi(me);
  const createdFrom = new Date(order.createdAt.getTime() - minute);
  const found = await orders.listOrders({ createdFrom, createdTo: new Date(Date.now() + minute) });
  assert.deepEqual(found.items.map((each) => each.id), [order.id]);
  assert.deepEqual((await orders.listOrders({ createdTo: createdFrom })).items, []);
}

async function fulfil(admin: sdk.Configuration, order: sdk.Order): Promise<void> {
  const orders = new sdk.OrdersApi(admin);
  const named = () => ({ orderId: order.id, idempotencyKey: randomUUID() });
  const shipmentCreate = { carrier: "Royal Mail", trackingNumber: "RM1" };
  const tooEarly = orders.shipOrder({ ...named(), shipmentCreate });
  const early = await refused(sdk.ProblemSlug.ILLEGAL_TRANSITION, tooEarly);
  assert.deepEqual(early.allowedActions, order.allowedActions);
  const paymentCreate = { amount: order.total, method: "card", reference: "ch_3P9uQ2" };
  assert.equal((await orders.payOrder({ ...named(), paymentCreate })).status, sdk.OrderStatus.Paid);
  assert.equal((await orders.shipOrder({ ...named(), shipmentCreate })).status, sdk.OrderStatus.Shipped);
  assert.equal((await orders.deliverOrder(named())).status, sdk.OrderStatus.Delivered);
}

async function showFace(me: sdk.Configuration): Promise<void> {
  const text =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  const picture = new Blob([Buffer.from(text, "base64")], { type: "image/png" });
  const { avatar } = await new sdk.ProfileApi(me).setAvatar({ image: picture });
  assert(avatar);
  const file = await fetch(anyone.basePath + avatar.small.url);
  assert.deepEqual([file.status, file.headers.get("Content-Type")], [200, "image/webp"]);
}

async function read(): Promise<void> {
  const documents = new sdk.DocumentsApi(anyone);
  assert((await documents.getDocs()).includes("<html"));
  assert((await documents.getDocsAsset({ name: "docs.css" })).includes("{"));
  assert((await documents.getOpenapiYaml()).startsWith("openapi:"));
}

// Signs in with a wrong password until the limit stops it.
async function tireOut(): Promise<void> {
  for (let count = 0; count < 20; count += 1) {
    const response = await failed(signIn({ email, password: "no green bicycle sings" }));
    if (response.status === 429) {
      assert.equal(sdk.ProblemFromJSON(await response.json()).code, sdk.ProblemSlug.RATE_LIMITED);
      assert(Number(response.headers.get("Retry-After")) > 0);
      return;
    }
  }
  assert.fail("sign-ins are not limited");
}

assert(new sdk.Configuration().basePath.startsWith("http"));
const user = await register();
const me = await refresh(await signIn({ email, password }));
await changeName(me);
await showFace(me);
const boss = await signIn({ email: process.env["ADMIN_EMAIL"] ?? "", password: process.env["ADMIN_PASSWORD"] ?? "" });
const admin = configured(boss.accessToken);
await pageToTheEnd(admin);
const order = await buy(me, await sellKites(admin));
await findByTime(me, order);
await fulfil(admin, order);
await read();
await new sdk.UsersApi(me).deleteUser({ userId: user.id });
await tireOut();
console.log("The tour is done.");
