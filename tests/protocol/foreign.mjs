// A client in another language, written from the pages in protocol/ alone: no packages, level 3.
//
//   node foreign.mjs URL [KEY IN HEX]
//
// plays with a server and prints "ok". Keys are text; the numbers in comments are those of the rules.

import { strict as assert } from "node:assert";
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { connect } from "node:net";

// msgpack, as far as values of level 0 need it -----------------------------------------------------

function uint(bytes, value) {
  const buffer = Buffer.alloc(bytes);
  if (bytes === 8) buffer.writeBigUInt64BE(BigInt(value));
  else buffer.writeUIntBE(value, 0, bytes);
  return buffer;
}

function head(size, fix, heads) {
  if (fix && size <= fix[1]) return Buffer.from([fix[0] | size]);
  const width = [1, 2, 4].find((width) => heads[width] && size < 2 ** (8 * width));
  return Buffer.concat([Buffer.from([heads[width]]), uint(width, size)]);
}

function pack(value) {
  if (value === null || value === undefined) return Buffer.from([0xc0]);
  if (typeof value === "boolean") return Buffer.from([value ? 0xc3 : 0xc2]);
  if (typeof value === "number") {
    if (!Number.isInteger(value) || Object.is(value, -0)) {
      const buffer = Buffer.alloc(9, 0xcb);
      buffer.writeDoubleBE(value, 1);
      return buffer;
    }
    if (value >= 0) {
      if (value < 0x80) return Buffer.from([value]);
      const [width, code] = [[1, 0xcc], [2, 0xcd], [4, 0xce], [8, 0xcf]].find(
        ([width]) => value < 2 ** (8 * width),
      );
      return Buffer.concat([Buffer.from([code]), uint(width, value)]);
    }
    if (value >= -32) return Buffer.from([0x100 + value]);
    const buffer = Buffer.alloc(9, 0xd3);
    buffer.writeBigInt64BE(BigInt(value), 1);
    return buffer;
  }
  if (typeof value === "string") {
    const data = Buffer.from(value);
    return Buffer.concat([head(data.length, [0xa0, 31], { 1: 0xd9, 2: 0xda, 4: 0xdb }), data]);
  }
  if (Buffer.isBuffer(value)) {
    return Buffer.concat([head(value.length, null, { 1: 0xc4, 2: 0xc5, 4: 0xc6 }), value]);
  }
  if (Array.isArray(value)) {
    const start = head(value.length, [0x90, 15], { 2: 0xdc, 4: 0xdd });
    return Buffer.concat([start, ...value.map(pack)]);
  }
  const entries = Object.entries(value);
  return Buffer.concat([
    head(entries.length, [0x80, 15], { 2: 0xde, 4: 0xdf }),
    ...entries.flat().map(pack),
  ]);
}

function unpack(data) {
  let at = 0;
  const number = (width) => {
    const value = width === 8 ? Number(data.readBigUInt64BE(at)) : data.readUIntBE(at, width);
    at += width;
    return value;
  };
  const signed = (width) => {
    const value = width === 8 ? Number(data.readBigInt64BE(at)) : data.readIntBE(at, width);
    at += width;
    return value;
  };
  const take = (size) => {
    assert(at + size <= data.length, "incomplete");
    return data.subarray(at, (at += size));
  };
  const array = (size) => Array.from({ length: size }, value);
  const map = (size) => Object.fromEntries(array(size * 2).reduce(
    (pairs, one, i) => (i % 2 ? pairs.at(-1).push(one) : pairs.push([one]), pairs), [],
  ));
  function value() {
    const code = number(1);
    if (code < 0x80) return code;
    if (code < 0x90) return map(code & 15);
    if (code < 0xa0) return array(code & 15);
    if (code < 0xc0) return take(code & 31).toString();
    if (code >= 0xe0) return code - 0x100;
    switch (code) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return take(number(1 << (code - 0xc4)));
      case 0xca: return take(4).readFloatBE();
      case 0xcb: return take(8).readDoubleBE();
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return number(1 << (code - 0xcc));
      case 0xd0: case 0xd1: case 0xd2: case 0xd3: return signed(1 << (code - 0xd0));
      case 0xd9: case 0xda: case 0xdb: return take(number(1 << (code - 0xd9))).toString();
      case 0xdc: case 0xdd: return array(number(code === 0xdc ? 2 : 4));
      case 0xde: case 0xdf: return map(number(code === 0xde ? 2 : 4));
    }
    throw new Error(`no value of level 0: ${code.toString(16)}`);
  }
  const found = value();
  assert.equal(at, data.length);
  return found;
}

// The client ---------------------------------------------------------------------------------------

const [CALL, POST, CANCEL, KEEP, BYE] = [0, 1, 2, 3, 6];
const [ERROR, CANCELLED, ACK, GOAWAY] = [17, 18, 32, 33];
const mac = (key, data) => createHmac("sha256", key).update(data).digest();
const key = (text) => pack(text); // K-6
const frame = (...fields) => {
  const payload = pack(fields);
  return Buffer.concat([uint(4, payload.length), payload]);
};

class RemoteError extends Error {
  constructor(code, words, data) {
    super(`${code}: ${words}`);
    Object.assign(this, { code, data });
  }
}

class Client {
  constructor(url, secret) {
    const { protocol, hostname, port, pathname } = new URL(url);
    this.where = protocol === "unix:" ? { path: decodeURIComponent(pathname) }
      : { host: hostname, port: Number(port), noDelay: true };
    Object.assign(this, { secret, id: randomBytes(16), attachment: 0, lastCall: 0 });
    Object.assign(this, { received: 0, sent: 0, confirmed: 0, told: 0, unsaid: 0 });
    Object.assign(this, { kept: [], waiting: new Map(), cancelling: new Map() });
  }

  /** Open a session, or resume it on a new connection. */
  async connect() {
    const older = this.socket;
    const socket = (this.socket = connect(this.where));
    socket.on("error", () => {});
    const frames = [];
    let rest = [], size = 0, wake = () => {}, ended = false;
    const next = () => new Promise((resolve, reject) => {
      wake = () => {
        if (!frames.length && !ended) return;
        wake = () => {}; // what comes behind waits for its turn
        if (frames.length) resolve(frames.shift());
        else reject(new Error("the server closed the connection"));
      };
      wake();
    });
    let session = false;
    socket.on("close", () => { ended = true; wake(); });
    socket.on("data", (data) => {
      rest.push(data);
      size += data.length;
      while (size >= 4) {
        if (rest[0].length < 4) rest = [Buffer.concat(rest)];
        const length = rest[0].readUInt32BE();
        if (size < 4 + length) break;
        const all = rest.length > 1 ? Buffer.concat(rest) : rest[0];
        const one = all.subarray(0, 4 + length);
        rest = [all.subarray(4 + length)];
        size -= 4 + length;
        if (session) { if (socket === this.socket) this.receive(one.subarray(4)); } // F-10
        else { frames.push(one); wake(); }
      }
    });
    if (this.session) this.attachment += 1; // H-23
    const hello = frame(64, {
      versions: [1], auth: [this.secret ? "hmac-sha256" : "peer"], nonce: randomBytes(32),
      agent: "foreign.js/1", client: this.id, pid: process.pid, host: "",
      resume: this.session ? [this.session, this.received, this.attachment] : null,
      capabilities: [],
    });
    const preface = Buffer.from("41494f4d010d0a00", "hex");
    socket.write(Buffer.concat([preface, hello]));
    let answer = await next(), proven;
    if (this.secret && unpack(answer.subarray(4))[0] === 65) {
      const transcript = createHash("sha256").update(preface).update(hello).update(answer).digest();
      const proof = mac(mac(this.secret, "aiomanager 1 client"), transcript);
      proven = Buffer.concat([transcript, proof]);
      socket.write(frame(66, { proof }));
      answer = await next();
    }
    const [kind, body, theirs] = unpack(answer.subarray(4));
    if (kind === 68) throw new RemoteError(body, theirs);
    assert.equal(kind, 67);
    if (this.secret) { // H-12, H-15
      const ours = mac(mac(this.secret, "aiomanager 1 server"), Buffer.concat([proven, body]));
      assert(timingSafeEqual(ours, theirs));
    }
    const welcome = unpack(body);
    this.session = welcome.session;
    this.confirm(welcome.received);
    [this.told, this.unsaid] = [this.received, 0];
    session = true;
    for (const one of frames.splice(0)) this.receive(one.subarray(4));
    for (const one of this.kept) socket.write(one); // S-3
    older?.destroy();
    return this;
  }

  cut() { this.socket.destroy(); }

  confirm(count) {
    assert(count <= this.sent);
    for (; this.confirmed < count; this.confirmed += 1) this.kept.shift();
  }

  send(kind, ...fields) {
    const one = frame(kind, this.received, ...fields);
    this.sent += 1;
    this.kept.push(one);
    [this.told, this.unsaid] = [this.received, 0];
    if (!this.socket.destroyed) this.socket.write(one);
  }

  receive(data) {
    const [kind, ack, ...fields] = unpack(data);
    this.confirm(ack);
    if (kind === GOAWAY) return this.socket.destroy();
    if (kind >= ACK) return; // M-6
    this.received += 1;
    this.unsaid += data.length;
    const [call, ...rest] = fields;
    if (kind === CANCELLED) {
      if (rest[0] === 0) this.waiting.delete(call);
      this.cancelling.get(call)(rest[0]);
      this.cancelling.delete(call);
    } else {
      const [resolve, reject] = this.waiting.get(call) ?? [];
      this.waiting.delete(call);
      if (kind === ERROR) reject?.(new RemoteError(...rest));
      else resolve?.(rest[0]);
    }
    if (this.unsaid >= 65536 || this.received - this.told >= 256) { // S-6
      this.socket.write(frame(ACK, this.received));
      [this.told, this.unsaid] = [this.received, 0];
    }
  }

  /** Call; the promise's `id` is the call's. */
  call(object, operation, ...given) {
    const id = (this.lastCall += 1);
    const promise = new Promise((resolve, reject) => this.waiting.set(id, [resolve, reject]));
    this.send(CALL, id, object, operation, given, 0);
    return Object.assign(promise, { id });
  }

  post(object, operation, ...given) {
    this.send(POST, (this.lastCall += 1), object, operation, given, 0);
  }

  cancel({ id }) {
    const promise = new Promise((resolve) => this.cancelling.set(id, resolve));
    this.send(CANCEL, id);
    return promise;
  }

  keep({ id }) { this.send(KEEP, [id]); }

  bye() { this.send(BYE); this.socket.end(); }
}

// A program ----------------------------------------------------------------------------------------

const [url, secret] = process.argv.slice(2);
const open = () => new Client(url, secret && Buffer.from(secret, "hex")).connect();
const [one, two] = await Promise.all([open(), open()]);

const shared = await one.call(0, "create", "dict", []);
await one.call(shared, "set", key("k"), "wörld");
assert.equal(await one.call(shared, "get", key("k")), "wörld");
assert.equal(await one.call(shared, "increment", key("n"), 41.5), 41.5);
assert.deepEqual(await one.call(shared, "get", key("x"), null), []);
await assert.rejects(one.call(shared, "get_item", key("x")), { code: 400, data: key("x") });
const many = Array.from({ length: 300 }, () => one.call(shared, "increment", key("count")));
assert.equal((await Promise.all(many)).at(-1), 300);
const large = pack(Buffer.alloc(1 << 20));
await one.call(shared, "set", key("large"), large);
for (let i = 0; i < 12; i += 1) assert((await one.call(shared, "get", key("large"))).equals(large));

const queue = await one.call(0, "named", "Queue", "from javascript", []);
const waiting = one.call(queue, "get");
await two.call(await two.call(0, "named", "Queue", "from javascript", []), "put", "item");
assert.equal(await waiting, "item");
one.keep(waiting);
const given = one.call(queue, "get");
assert.equal(await one.cancel(given), 0);
await assert.rejects(one.call(queue, "get", true, 0.01), { code: 405 });

const parked = one.call(queue, "get");
const before = one.call(shared, "increment", key("count"));
one.cut();
const after = one.call(shared, "increment", key("count"));
await two.call(queue, "put", "second");
await one.connect();
assert.deepEqual(await Promise.all([before, after, parked]), [301, 302, "second"]);
one.keep(parked);
one.post(queue, "put_nowait", "third");
assert.equal(await one.call(queue, "qsize"), 1);
await one.call(0, "delete", "from javascript");

one.bye();
two.bye();
console.log("ok");
