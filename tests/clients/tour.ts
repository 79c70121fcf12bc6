// The tour of docs/tour.md with openapi-fetch and the types that openapi-typescript generates from the contract.
//
// Run as `node tour.js URL`, with an administrator's ADMIN_EMAIL and ADMIN_PASSWORD, and the CLIENT_ADDRESS to come
// from, in the environment. It ends with an error at the first answer that is not as the contract promises.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];
type OrderQuery = NonNullable<paths["/v1/orders"]["get"]["parameters"]["query"]>;
type UserQuery = NonNullable<paths["/v1/users"]["get"]["parameters"]["query"]>;
type Api = Client<paths>;

const email = "typescript@concord.example";
const password = "seven green bicycles sing";
const baseUrl = process.argv[2] ?? "";

const headers = { "X-Forwarded-For": process.env["CLIENT_ADDRESS"] ?? "" };

const anyone: Api = createClient<paths>({ baseUrl, headers });

function signedIn(token: Schemas["AccessToken"]): Api {
  return createClient<paths>({ baseUrl, headers: { ...headers, Authorization: `Bearer ${token.access_token}` } });
}

async function signIn(credentials: Schemas["Credentials"]): Promise<Schemas["AccessToken"]> {
  const { data } = await anyone.POST("/v1/auth/token", { body: credentials });
  assert(data);
  const kind: "bearer" = data.token_type;
  assert.equal(kind, "bearer");
  assert(data.expires_in > 0 && data.expires_in <= 3600);
  return data;
}

async function refresh(token: Schemas["AccessToken"]): Promise<Api> {
  const { data: next } = await anyone.POST("/v1/auth/refresh", { body: { refresh_token: token.refresh_token } });
  assert(next && next.access_token !== token.access_token);
  return signedIn(next);
}

async function read(): Promise<void> {
  const { data: page } = await anyone.GET("/docs", { parseAs: "text" });
  assert(page?.includes("<html"));
  const asset = { params: { path: { name: "docs.css" } }, parseAs: "text" } as const;
  assert((await anyone.GET("/docs/{name}", asset)).data?.includes("{"));
  const { data: contract } = await anyone.GET("/openapi.yaml", { parseAs: "text" });
  assert(contract?.startsWith("openapi:"));
}

// Signs in with a wrong password until the limit stops it.
async function tireOut(): Promise<void> {
  const body = { email, password: "no green bicycle sings" };
  for (let count = 0; count < 20; count += 1) {
    const { error, response } = await anyone.POST("/v1/auth/token", { body });
    if (error?.code === "rate-limited") {
      assert(response.status === 429 && Number(response.headers.get("Retry-After")) > 0);
      return;
    }
  }
  assert.fail("sign-ins are not limited");
}

async function register(): Promise<Schemas["User"]> {
  const body: Schemas["UserCreate"] = { name: "Ada Lovelace", email, password };
  const { data, response } = await anyone.POST("/v1/users", { body });
  assert(data);
  assert(response.headers.get("Location")?.endsWith(`/v1/users/${data.id}`));
  assert.deepEqual([data.role, data.active], ["user", true]);
  const { error: taken } = await anyone.POST("/v1/users", { body });
  assert(taken);
  assert.equal(taken.status, 409);
  assert.equal(taken.code, "email-taken");
  return data;
}

async function changeName(me: Api): Promise<void> {
  const { data: before, response } = await me.GET("/v1/profile");
  const etag = response.headers.get("ETag");
  assert(before && etag);
  const change = { params: { header: { "If-Match": etag } }, body: { name: "Ada King" } };
  const { data: after } = await me.PATCH("/v1/profile", change);
  assert(after);
  assert.deepEqual([after.id, after.name], [before.id, "Ada King"]);
  const { error: late } = await me.PATCH("/v1/profile", change);
  assert.deepEqual([late?.status, late?.code], [412, "version-mismatch"]);
  const { response: current } = await me.GET("/v1/profile");
  const known = { params: { header: { "If-None-Match": current.headers.get("ETag") ?? "" } } };
  assert.equal((await me.GET("/v1/profile", known)).response.status, 304);
}

async function idsOfAllPages(admin: Api): Promise<number[]> {
  const ids: number[] = [];
  let cursor: string | null = null;
  do {
    const query: UserQuery = { active: true, limit: 50, ...(cursor !== null && { cursor }) };
    const { data }: { data?: Schemas["UserPage"] } = await admin.GET("/v1/users", { params: { query } });
    assert(data);
    ids.push(...data.items.map((user) => user.id));
    cursor = data.next_cursor;
  } while (cursor !== null);
  return ids;
}

// A key for one intention.
const newKey = () => ({ "Idempotency-Key": randomUUID() });

async function sellKites(admin: Api): Promise<Schemas["Product"]> {
  const body: Schemas["ProductCreate"] = {
    sku: "KITE-RED",
    name: "Red kite",
    price: { amount: 1999, currency: "EUR" },
  };
  const { data: product } = await admin.POST("/v1/products", { body });
  assert(product);
  const { data: entry } = await admin.POST("/v1/products/{product_id}/stock-adjustments", {
    params: { path: { product_id: product.id }, header: newKey() },
    body: { quantity: 5, reason: "First delivery" },
  });
  assert.equal(entry?.on_hand, 5);
  const { error: taken } = await admin.POST("/v1/products", { body });
  assert.equal(taken?.code, "sku-taken");
  return product;
}

async function browse(product: Schemas["Product"]): Promise<void> {
  const query = { q: "red kit", in_stock: true };
  const { data: page } = await anyone.GET("/v1/products", { params: { query } });
  assert.deepEqual(page?.items.map((item) => [item.id, item.stock.available]), [[product.id, 5]]);
  const { data: listed } = await anyone.GET("/v1/currencies");
  const digits = new Map(listed?.items.map((currency) => [currency.code, currency.minor_units]));
  assert.deepEqual([digits.get("EUR"), digits.get("JPY"), digits.get("KWD")], [2, 0, 3]);
}

async function buy(me: Api, product: Schemas["Product"]): Promise<Schemas["Order"]> {
  const body: Schemas["OrderCreate"] = {
    lines: [{ product_id: product.id, quantity: 4 }],
    metadata: { season: "spring" },
  };
  const header = newKey();
  const { data: order } = await me.POST("/v1/orders", { params: { header }, body });
  assert(order);
  assert.deepEqual([order.status, order.total], ["pending", { amount: 7996, currency: "EUR" }]);
  assert(order.shipping_address === null && order.expires_at !== null);
  const { data: same, response } = await me.POST("/v1/orders", { params: { header }, body });
  assert.deepEqual(same, order);
  assert.equal(response.headers.get("Idempotent-Replayed"), "true");
  const { error: short } = await me.POST("/v1/orders", { params: { header: newKey() }, body });
  assert.equal(short?.code, "out-of-stock");
  const line = { pointer: "/lines/0", product_id: product.id, wanted: 4, available: 1 };
  assert.deepEqual(short.shortages, [line]);
  const home = { name: "Ada Lovelace", line1: "12 St James's Square", city: "London", country: "GB" };
  const { data: told } = await me.PATCH("/v1/orders/{order_id}", {
    params: { path: { order_id: order.id } },
    body: { shipping_address: home },
  });
  assert.deepEqual([told?.shipping_address, told?.metadata["season"]], [home, "spring"]);
  return order;
}

async function findByTime(me: Api, order: Schemas["Order"]): Promise<void> {
  const minute = 60_000;
  const start = new Date(Date.parse(order.created_at) - minute).toISOString();
  const end = new Date(Date.now() + minute).toISOString();
  const { data: found } = await me.GET("/v1/orders", { params: { query: { created_from: start, created_to: end } } });
  assert.deepEqual(found?.items.map((each) => each.id), [order.id]);
  const { data: earlier } = await me.GET("/v1/orders", { params: { query: { created_to: start } } });
  assert.deepEqual(earlier?.items, []);
}

async function fulfil(admin: Api, order: Schemas["Order"]): Promise<void> {
  const params = () => ({ path: { order_id: order.id }, header: newKey() });
  const product_id = order.lines[0]?.product_id ?? 0;
  const parcel = { carrier: "Royal Mail", tracking_number: "RM1" };
  const { error: early } = await admin.POST("/v1/orders/{order_id}/ship", { params: params(), body: parcel });
  assert.deepEqual([early?.code, early?.state], ["illegal-transition", "pending"]);
  assert.deepEqual(early?.allowed_actions, order.allowed_actions);
  const payment: Schemas["PaymentCreate"] = { amount: order.total, method: "card", reference: "ch_3P9uQ2" };
  const { data: paid } = await admin.POST("/v1/orders/{order_id}/pay", { params: params(), body: payment });
  assert.deepEqual([paid?.status, paid?.paid, paid?.expires_at], ["paid", order.total, null]);
  const part: Schemas["ShipmentCreate"] = { ...parcel, lines: [{ product_id, quantity: 1 }] };
  const { data: first } = await admin.POST("/v1/orders/{order_id}/ship", { params: params(), body: part });
  const { data: rest } = await admin.POST("/v1/orders/{order_id}/ship", { params: params(), body: parcel });
  assert.deepEqual([first?.status, rest?.status], ["partially_shipped", "shipped"]);
  const refund: Schemas["RefundCreate"] = { reason: "Too windy.", restock: [{ product_id, quantity: 3 }] };
  const { data: refunded } = await admin.POST("/v1/orders/{order_id}/refund", { params: params(), body: refund });
  assert.deepEqual([refunded?.status, refunded?.refunded], ["refunded", order.total]);
}

async function lookBack(me: Api, order: Schemas["Order"]): Promise<void> {
  const { data: events } = await me.GET("/v1/orders/{order_id}/events", {
    params: { path: { order_id: order.id } },
  });
  const actions = events?.items.map((event) => event.action);
  assert.deepEqual(actions, ["create", "update", "pay", "ship", "ship", "refund"]);
  assert.deepEqual(events?.items[2]?.amount, { amount: 7996, currency: "EUR" });
  const product_id = order.lines[0]?.product_id ?? 0;
  const { data: kite } = await me.GET("/v1/products/{product_id}", { params: { path: { product_id } } });
  assert.equal(kite?.stock.on_hand, 4);
}

async function ordersOfAllPages(admin: Api): Promise<Schemas["Order"][]> {
  const orders: Schemas["Order"][] = [];
  const status: Schemas["OrderStatus"][] = ["refunded", "delivered", "cancelled"];
  let cursor: string | null = null;
  do {
    const query: OrderQuery = { status, sort: "-total", limit: 10, ...(cursor !== null && { cursor }) };
    const { data }: { data?: Schemas["OrderPage"] } = await admin.GET("/v1/orders", { params: { query } });
    assert(data);
    assert(data.items.every((order) => status.includes(order.status)));
    orders.push(...data.items);
    cursor = data.next_cursor;
  } while (cursor !== null);
  return orders;
}

async function seeProblems(me: Api): Promise<void> {
  const body = { name: "", email: "nobody", password: "short" };
  const { error: invalid } = await anyone.POST("/v1/users", { body });
  assert.equal(invalid?.code, "invalid-body");
  const pointers = invalid.errors?.map((violation) => violation.pointer);
  assert.deepEqual(new Set(pointers), new Set(["/name", "/email", "/password"]));
  const { error: forbidden } = await me.GET("/v1/users");
  assert.deepEqual([forbidden?.status, forbidden?.code], [403, "not-permitted"]);
  const { error: impossible } = await anyone.GET("/v1/divide", { params: { query: { a: 10, b: 0 } } });
  assert.equal(impossible?.code, "impossible-division");
  assert(impossible.instance);
}

async function showFace(me: Api): Promise<void> {
  const text =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  const picture = new Blob([Buffer.from(text, "base64")], { type: "image/png" });
  const form = new FormData();
  form.append("image", picture, "ada.png");
  const { data } = await me.PUT("/v1/profile/avatar", { body: { image: "" }, bodySerializer: () => form });
  assert(data?.avatar);
  const file = await fetch(baseUrl + data.avatar.small.url);
  assert.deepEqual([file.status, file.headers.get("Content-Type")], [200, "image/webp"]);
}

async function leave(me: Api, user_id: number): Promise<void> {
  const { response } = await me.DELETE("/v1/users/{user_id}", { params: { path: { user_id } } });
  assert.equal(response.status, 204);
  const { error: signedOut } = await me.GET("/v1/users/{user_id}", { params: { path: { user_id } } });
  // The token may outlive the account by up to a second.
  assert(signedOut?.status === 401 || signedOut?.status === 404);
}

const { data: quotient } = await anyone.GET("/v1/divide", { params: { query: { a: 10, b: 2 } } });
assert.equal(quotient?.result, 5.0);
const user = await register();
const me = await refresh(await signIn({ email, password }));
await changeName(me);
await showFace(me);
const boss = { email: process.env["ADMIN_EMAIL"] ?? "", password: process.env["ADMIN_PASSWORD"] ?? "" };
const admin = signedIn(await signIn(boss));
const ids = await idsOfAllPages(admin);
assert(ids.includes(user.id));
assert(ids.length > 100 && ids.length === new Set(ids).size);
await seeProblems(me);
const kite = await sellKites(admin);
await browse(kite);
const order = await buy(me, kite);
await findByTime(me, order);
await fulfil(admin, order);
await lookBack(me, order);
const orders = await ordersOfAllPages(admin);
const totals = orders.map((each) => each.total.amount);
assert.deepEqual(totals, [...totals].sort((one, other) => other - one));
const orderIds = new Set(orders.map((each) => each.id));
assert(orderIds.has(order.id) && orders.length > 10 && orders.length === orderIds.size);
await read();
await leave(me, user.id);
await tireOut();
console.log("The tour is done.");
