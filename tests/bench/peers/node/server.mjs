// fastify, ajv and better-sqlite3 with the statements, rows and memory of tokens of the other tuned peers.
// SQLite runs on the event loop, as the documentation of better-sqlite3 recommends.
import { createHash, createPublicKey, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import Database from 'better-sqlite3';
import { createVerifier } from 'fast-jwt';
import Fastify from 'fastify';

const { BENCH_DATABASE_URL, BENCH_ISSUER, BENCH_SIGNING_KEY_FILE, PORT } = process.env;
const RESERVATION = 30 * 24 * 3600 * 1000;
const KNOWN = 500;
const MOST_KNOWN = 10_000;

const verify = createVerifier({
  key: createPublicKey(readFileSync(BENCH_SIGNING_KEY_FILE)).export({ type: 'spki', format: 'pem' }),
  algorithms: ['EdDSA'],
  allowedIss: BENCH_ISSUER,
  allowedAud: `${BENCH_ISSUER}/v1`,
  requiredClaims: ['exp', 'iat', 'sub', 'scope', 'sid'],
  cache: MOST_KNOWN,
});

const db = new Database(BENCH_DATABASE_URL.replace('sqlite:///', ''), { timeout: 30_000 });
for (const pragma of ['journal_mode = WAL', 'foreign_keys = ON', 'secure_delete = ON', 'synchronous = FULL']) db.pragma(pragma);

const ORDER = ['id', 'user_id', 'status', 'currency', 'total_amount', 'paid_amount', 'refunded_amount', 'bounced_amount',
  'unapplied_amount', 'unapplied_refunded_amount', 'note', 'shipping_address', 'metadata', 'version', 'expires_at',
  'created_at', 'updated_at'];
const LINE = ['order_id', 'number', 'product_id', 'sku', 'name', 'unit_amount', 'currency', 'quantity', 'shipped', 'returned'];
const insert = (table, columns) =>
  db.prepare(`INSERT INTO ${table} (${columns}) VALUES (${columns.map((name) => `@${name}`)})`);
const sql = {
  standing: db.prepare(`SELECT users.id, users.role FROM tokens JOIN users ON users.id = tokens.user_id
    WHERE tokens.id = ? AND tokens.ended_at IS NULL AND tokens.expires_at > ?
    AND tokens.token_version = users.token_version AND users.active AND users.erased_at IS NULL`),
  user: db.prepare(`SELECT id, name, email, role, active, email_verified, password_change_required, avatar, created_at,
    updated_at FROM users WHERE id = ? AND erased_at IS NULL`),
  orders: db.prepare(`SELECT ${ORDER} FROM orders ORDER BY id DESC LIMIT ?`),
  ownOrders: db.prepare(`SELECT ${ORDER} FROM orders WHERE user_id = ? ORDER BY id DESC LIMIT ?`),
  kept: db.prepare('SELECT fingerprint, body FROM idempotency_records WHERE user_id = ? AND key = ?'),
  reserve: db.prepare('UPDATE products SET reserved = reserved + ?, version = version + 1, updated_at = ? WHERE id = ?'),
  order: insert('orders', ORDER),
  line: insert('order_lines', LINE),
  orderEvent: insert('order_events', ['order_id', 'number', 'action', 'status', 'actor_id', 'created_at', 'lines']),
  entry: insert('stock_entries', ['product_id', 'kind', 'on_hand', 'reserved', 'order_id', 'actor_id', 'created_at']),
  event: insert('events', ['id', 'type', 'subject', 'version', 'facts', 'created_at']),
  record: insert('idempotency_records', ['user_id', 'key', 'owner_id', 'fingerprint', 'status', 'headers', 'body', 'created_at']),
};
// One statement for each number of values.
const listed = (before, after) => {
  const statements = [];
  return (values) => (statements[values.length] ??= db.prepare(`${before} (${values.map(() => '?')}) ${after}`)).all(values);
};
const linesOf = listed(`SELECT ${LINE} FROM order_lines WHERE order_id IN`, 'ORDER BY order_id, number');
const productsOf = listed('SELECT * FROM products WHERE id IN', 'ORDER BY id');

const ACTIONS = {
  pending: ['update', 'pay', 'cancel', 'reduce', 'bounce'],
  paid: ['update', 'pay', 'ship', 'cancel', 'reduce', 'refund', 'bounce'],
  partially_shipped: ['pay', 'ship', 'reduce', 'refund', 'return', 'bounce'],
  shipped: ['pay', 'deliver', 'refund', 'return', 'bounce'],
  delivered: ['pay', 'refund', 'return', 'bounce'],
  cancelled: ['pay', 'refund', 'bounce'],
  expired: ['pay', 'refund', 'bounce'],
  refunded: ['pay', 'refund', 'return', 'bounce'],
};
const ENDED = new Set(['cancelled', 'expired', 'refunded']);

const stored = (date) => date.toISOString().replace('T', ' ').replace('Z', '000');
const told = (text) => text && `${text.replace(' ', 'T')}Z`;
const dashed = (id) => `${id.slice(0, 8)}-${id.slice(8, 12)}-${id.slice(12, 16)}-${id.slice(16, 20)}-${id.slice(20)}`;
const uuid7 = () => {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = 0x70 | (bytes[6] & 15);
  bytes[8] = 0x80 | (bytes[8] & 63);
  return bytes.toString('hex');
};

class Refused extends Error {
  constructor(statusCode, message) {
    super(message);
    this.statusCode = statusCode;
  }
}

const known = new Map();
const standing = (session) => sql.standing.get(session, stored(new Date()));
const admit = (scope) => async (request) => {
  const [scheme, token] = (request.headers.authorization ?? '').split(' ');
  let claims;
  try {
    claims = scheme.toLowerCase() === 'bearer' && verify(token);
  } catch {
    claims = undefined;
  }
  if (!claims) throw new Refused(401, 'the token is invalid');
  const session = claims.sid.replaceAll('-', ''), now = performance.now();
  let [seen, account] = known.get(session) ?? [-Infinity];
  if (now - seen >= KNOWN) {
    account = standing(session);
    known.delete(session);
    if (known.size >= MOST_KNOWN) known.delete(known.keys().next().value);
    known.set(session, [now, account]);
  }
  if (String(account?.id) !== claims.sub || !claims.scope.split(' ').includes(scope)) throw new Refused(401, 'the session is over');
  request.account = account;
  request.session = session;
};

function amountsOf(order) {
  const money = (amount) => ({ amount, currency: order.currency });
  const held = order.paid_amount - order.refunded_amount - order.bounced_amount + order.unapplied_amount;
  const ended = ENDED.has(order.status);
  const amounts = {
    total: money(order.total_amount),
    paid: money(order.paid_amount - order.bounced_amount + order.unapplied_amount + order.unapplied_refunded_amount),
    refunded: money(order.refunded_amount + order.unapplied_refunded_amount),
    unapplied: money(ended ? held : order.unapplied_amount),
    due: money(ended ? 0 : order.total_amount - order.paid_amount + order.bounced_amount),
  };
  return [amounts, held];
}

function asJson(order, lines) {
  const [amounts, held] = amountsOf(order);
  const ruledOut = held ? [] : ['bounce', 'refund'];
  if (amounts.due.amount) ruledOut.push('ship');
  if (lines.every((line) => line.shipped === line.returned)) ruledOut.push('return');
  if (lines.length === 1 && lines[0].quantity === 1) ruledOut.push('reduce');
  return {
    id: dashed(order.id),
    user_id: order.user_id,
    status: order.status,
    allowed_actions: ACTIONS[order.status].filter((action) => !ruledOut.includes(action)),
    lines: lines.map((line) => ({
      product_id: line.product_id,
      sku: line.sku,
      name: line.name,
      unit_price: { amount: line.unit_amount, currency: line.currency },
      quantity: line.quantity,
      total: { amount: line.unit_amount * line.quantity, currency: line.currency },
      shipped: line.shipped,
      returned: line.returned,
    })),
    ...amounts,
    note: order.note,
    shipping_address: order.shipping_address && JSON.parse(order.shipping_address),
    metadata: JSON.parse(order.metadata),
    expires_at: told(order.expires_at),
    created_at: told(order.created_at),
    updated_at: told(order.updated_at),
  };
}

const place = db.transaction((account, session, key, body) => {
  if (!standing(session)) throw new Refused(401, 'the session is over');
  const fingerprint = createHash('sha256').update(JSON.stringify(body)).digest();
  const kept = sql.kept.get(account.id, key);
  if (kept && !kept.fingerprint.equals(fingerprint)) throw new Refused(422, 'the key was used for another request');
  if (kept) return kept.body;
  const products = new Map(productsOf(body.lines.map((line) => line.product_id)).map((each) => [each.id, each]));
  if (products.size !== body.lines.length) throw new Refused(422, 'a product is unknown or named twice');
  const moment = new Date(), now = stored(moment), id = uuid7();
  const { currency } = products.get(body.lines[0].product_id);
  const lines = body.lines.map(({ product_id, quantity }, number) => {
    const product = products.get(product_id);
    if (!product.active || product.archived_at || product.currency !== currency) throw new Refused(422, 'a product cannot be ordered');
    if (product.on_hand - product.reserved < quantity) throw new Refused(409, 'there is not enough of a product');
    const { sku, name, price_amount: unit_amount } = product;
    return { order_id: id, number, product_id, sku, name, unit_amount, currency, quantity, shipped: 0, returned: 0 };
  });
  const order = {
    id,
    user_id: account.id,
    status: 'pending',
    currency,
    total_amount: lines.reduce((sum, line) => sum + line.unit_amount * line.quantity, 0),
    paid_amount: 0,
    refunded_amount: 0,
    bounced_amount: 0,
    unapplied_amount: 0,
    unapplied_refunded_amount: 0,
    note: body.note ?? null,
    shipping_address: body.shipping_address ? JSON.stringify(body.shipping_address) : null,
    metadata: JSON.stringify(body.metadata ?? {}),
    version: 1,
    expires_at: stored(new Date(moment.getTime() + RESERVATION)),
    created_at: now,
    updated_at: now,
  };
  const tell = (type, subject, version, facts) =>
    sql.event.run({ id: uuid7(), type, subject, version, facts: JSON.stringify(facts), created_at: now });
  sql.order.run(order);
  for (const line of lines) sql.line.run(line);
  sql.orderEvent.run({ order_id: id, number: 1, action: 'create', status: 'pending', actor_id: account.id, created_at: now, lines: '[]' });
  tell('order.create', `orders/${dashed(id)}`, 1, {
    id: dashed(id),
    user_id: account.id,
    status: 'pending',
    ...amountsOf(order)[0],
    amount: null,
    lines: lines.map(({ product_id, quantity, shipped, returned }) => ({ product_id, quantity, shipped, returned })),
  });
  for (const { product_id, quantity } of lines) {
    const entry = { product_id, kind: 'reservation', on_hand: 0, reserved: quantity };
    sql.reserve.run(quantity, now, product_id);
    sql.entry.run({ ...entry, order_id: id, actor_id: account.id, created_at: now });
    tell('stock.reservation', `products/${product_id}`, products.get(product_id).version + 1, { ...entry, order_id: dashed(id) });
  }
  const answer = Buffer.from(JSON.stringify(asJson(order, lines)));
  const headers = JSON.stringify([['Location', `/v1/orders/${dashed(id)}`], ['Content-Type', 'application/json']]);
  sql.record.run({ user_id: account.id, key, owner_id: account.id, fingerprint, status: 201, headers, body: answer, created_at: now });
  return answer;
});

const string = { type: 'string' }, integer = { type: 'integer' }, boolean = { type: 'boolean' };
const nullable = { type: 'string', nullable: true };
const object = (properties, more = {}) => ({ type: 'object', properties, ...more });
const money = object({ amount: integer, currency: string });
const picture = object({ path: string, url: string, width: integer, height: integer });
const user = object({
  id: integer, name: string, email: string, role: string, active: boolean, email_verified: boolean,
  password_change_required: boolean,
  avatar: object({ original: picture, medium: picture, small: picture }, { nullable: true }),
  created_at: string, updated_at: string,
});
const line = object({
  product_id: integer, sku: string, name: string, unit_price: money, quantity: integer, total: money,
  shipped: integer, returned: integer,
});
const order = object({
  id: string, user_id: integer, status: string, allowed_actions: { type: 'array', items: string },
  lines: { type: 'array', items: line }, total: money, paid: money, refunded: money, unapplied: money, due: money,
  note: nullable, shipping_address: object({}, { nullable: true, additionalProperties: string }),
  metadata: object({}, { additionalProperties: string }), expires_at: nullable, created_at: string, updated_at: string,
});
const page = object({ items: { type: 'array', items: order }, next_cursor: nullable });

const closed = (required, properties, more = {}) => object(properties, { additionalProperties: false, required, ...more });
const text = { type: 'string', minLength: 1, maxLength: 100, pattern: '^[^\\x00-\\x1f\\x7f-\\x9f]+$' };
const orderLineCreate = closed(['product_id', 'quantity'], {
  product_id: { type: 'integer', minimum: 1, maximum: 2 ** 63 },
  quantity: { type: 'integer', minimum: 1, maximum: 100_000 },
});
const address = closed(['name', 'line1', 'city', 'country'], {
  name: text, line1: text, line2: text, city: text, region: text, postal_code: text,
  country: { type: 'string', pattern: '^[A-Z]{2}$' },
}, { nullable: true });
const orderCreate = closed(['lines'], {
  lines: { type: 'array', minItems: 1, maxItems: 100, items: orderLineCreate },
  note: { type: 'string', nullable: true, maxLength: 1000, pattern: '^[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]*$' },
  shipping_address: address,
  metadata: {
    type: 'object', maxProperties: 50, propertyNames: { pattern: '^[A-Za-z0-9_.-]{1,40}$' },
    additionalProperties: { type: 'string', maxLength: 500, pattern: '^[^\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]*$' },
  },
});
const key = object({ 'idempotency-key': { type: 'string', pattern: '^[!-~]{1,255}$' } }, { required: ['idempotency-key'] });
const number = { type: 'string', pattern: '^[0-9]{1,15}$' };
const limit = { type: 'string', pattern: '^([1-9][0-9]?|100)$', default: '25' };

const app = Fastify({ ajv: { customOptions: { coerceTypes: false, removeAdditional: false, allErrors: true } } });

app.get('/health', { schema: { response: { 200: object({ status: string }) } } }, async () => ({ status: 'ok' }));

app.get('/v1/users/:id', {
  onRequest: admit('users:read'),
  schema: { params: object({ id: number }), response: { 200: user } },
}, async ({ account, params }) => {
  const found = (account.role === 'admin' || account.id === +params.id) && sql.user.get(+params.id);
  if (!found) throw new Refused(404, 'there is no such account');
  return {
    ...found,
    active: !!found.active,
    email_verified: !!found.email_verified,
    password_change_required: !!found.password_change_required,
    created_at: told(found.created_at),
    updated_at: told(found.updated_at),
  };
});

app.get('/v1/orders', {
  onRequest: admit('orders:read'),
  schema: { querystring: object({ limit }), response: { 200: page } },
}, async ({ account, query }) => {
  const most = +query.limit;
  const rows = account.role === 'admin' ? sql.orders.all(most + 1) : sql.ownOrders.all(account.id, most + 1);
  const shown = rows.slice(0, most), lines = new Map(shown.map((each) => [each.id, []]));
  for (const each of linesOf(shown.map(({ id }) => id))) lines.get(each.order_id).push(each);
  const next_cursor = rows.length > most ? Buffer.from(shown.at(-1).id, 'hex').toString('base64url') : null;
  return { items: shown.map((each) => asJson(each, lines.get(each.id))), next_cursor };
});

app.post('/v1/orders', { onRequest: admit('orders:write'), schema: { body: orderCreate, headers: key } }, async (request, reply) => {
  const answer = place.immediate(request.account, request.session, request.headers['idempotency-key'], request.body);
  return reply.code(201).type('application/json').send(answer);
});

await app.listen({ port: +PORT, host: '127.0.0.1' });
