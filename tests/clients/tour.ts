// The tour of README.md with openapi-fetch and the types that openapi-typescript generates from the contract.
//
// Run as `node tour.js URL`, with an administrator's ADMIN_EMAIL and ADMIN_PASSWORD in the environment. It ends with
// an error at the first answer that is not as the contract promises.

import assert from "node:assert/strict";
import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];
type UserQuery = NonNullable<paths["/v1/users"]["get"]["parameters"]["query"]>;
type Api = Client<paths>;

const email = "typescript@concord.example";
const password = "seven green bicycles sing";
const baseUrl = process.argv[2] ?? "";

const anyone: Api = createClient<paths>({ baseUrl });

async function signIn(credentials: Schemas["Credentials"]): Promise<Api> {
  const { data } = await anyone.POST("/v1/auth/token", { body: credentials });
  assert(data);
  const kind: "bearer" = data.token_type;
  assert.equal(kind, "bearer");
  assert(data.expires_in > 0 && data.expires_in <= 3600);
  return createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${data.access_token}` } });
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
const me = await signIn({ email, password });
await changeName(me);
const admin = await signIn({ email: process.env["ADMIN_EMAIL"] ?? "", password: process.env["ADMIN_PASSWORD"] ?? "" });
const ids = await idsOfAllPages(admin);
assert(ids.includes(user.id));
assert(ids.length > 100 && ids.length === new Set(ids).size);
await seeProblems(me);
await leave(me, user.id);
console.log("The tour is done.");
