/**
 * Requests, byte for byte (Latin-1), that two readers could count or cut differently: the ground of request smuggling
 * (RFC 9112 §11.2), request splitting (§11.1) and their kin. Sources of the tricks: "HTTP Desync Attacks" and its
 * successors (Kettle, 2019 to 2022), the `TE`/`CL` tables of http-garden and T-Reqs, and Node's own advisories.
 *
 * In `bytes`, `{P}` stands for the path of the request that is meant, `{S}` for that of one that is smuggled, and `{A}`
 * for an Authorization field that is valid for both: nothing but the framing protects the smuggled one.
 */

export type SmugglingCase = {
  readonly name: string;
  readonly bytes: string;
  /** How many requests may go upstream: as many as a strict reader finds in it, or none where it must be refused. */
  readonly up: number;
  /** Whether exactly so many must: what is merely unusual has to work. */
  readonly exactly: boolean;
};

const START = 'POST {P} HTTP/1.1\r\nHost: x\r\n{A}\r\n';
const GET = 'GET {P} HTTP/1.1\r\nHost: x\r\n{A}\r\n';
const NEXT = 'GET {S} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n';
const CHUNKED = 'Transfer-Encoding: chunked\r\n';
const LAST = '0\r\n\r\n';

/** Never goes up. */
const refused = (name: string, bytes: string): SmugglingCase => ({ name, bytes, up: 0, exactly: true });
/** Goes up exactly so often. */
const passes = (name: string, bytes: string, up = 1): SmugglingCase => ({ name, bytes, up, exactly: true });
/** May be refused or go up, but not more often than that. */
const atMost = (up: number, name: string, bytes: string): SmugglingCase => ({ name, bytes, up, exactly: false });

/** A body whose length is told by these fields, followed by what would be smuggled. */
const withFields = (fields: string, body = `5\r\nhello\r\n${LAST}`): string => `${START}${fields}\r\n${body}${NEXT}`;

const lengthAndChunks = [
  refused('a length, then chunks', withFields(`Content-Length: 4\r\n${CHUNKED}`)),
  refused('chunks, then a length', withFields(`${CHUNKED}Content-Length: 4\r\n`)),
  refused('a length of 0, then chunks', withFields(`Content-Length: 0\r\n${CHUNKED}`)),
  refused('a length that covers everything, then chunks', withFields(`Content-Length: 300\r\n${CHUNKED}`, LAST)),
  refused('chunks between two lengths', withFields(`Content-Length: 5\r\n${CHUNKED}Content-Length: 5\r\n`)),
  refused('a length and gzip, chunked', withFields('Content-Length: 4\r\nTransfer-Encoding: gzip, chunked\r\n')),
  refused('a length and an unknown coding', withFields('Content-Length: 4\r\nTransfer-Encoding: x\r\n')),
  refused('a length and identity', withFields('Content-Length: 4\r\nTransfer-Encoding: identity\r\n')),
  refused('a length and an empty coding', withFields('Content-Length: 4\r\nTransfer-Encoding:\r\n')),
  refused('a bad length and chunks', withFields(`Content-Length: x\r\n${CHUNKED}`)),
  // To CGI and its heirs these are the same fields; here they are dropped, and the real one frames.
  passes('a length and Transfer_Encoding', `${START}Content-Length: 2\r\nTransfer_Encoding: chunked\r\n\r\nhi`),
  passes('chunks and Content_Length', `${START}${CHUNKED}Content_Length: 1\r\n\r\n2\r\nhi\r\n${LAST}`),
  passes('a length and content_length', `${START}Content-Length: 2\r\ncontent_length: 200\r\n\r\nhi`),
  passes('no body and Transfer_Encoding', `${GET}Transfer_Encoding: chunked\r\n\r\n`),
  passes('a length named in Connection', `${START}Connection: Content-Length\r\nContent-Length: 2\r\n\r\nhi`),
  passes('chunks named in Connection', `${START}Connection: Transfer-Encoding\r\n${CHUNKED}\r\n2\r\nhi\r\n${LAST}`),
];

const codings = [
  ...['xchunked', 'chunkedx', 'chunk', 'x', 'gzip', 'identity', 'identity, chunked', 'chunked, identity'],
  ...['chunked, chunked', 'chunked,chunked', 'gzip, chunked', 'chunked, gzip', 'deflate, chunked', 'chunked;q=1'],
  ...['"chunked"', "'chunked'", 'chunked;', ';chunked', 'chunked\x0b', '\x0bchunked', 'chunked\x00', '\x00chunked'],
  ...[
    'chun\x00ked',
    'chunked\x7f',
    'chunked\x80',
    '\xa0chunked',
    'ch\u00fcnked',
    'chunked \x0c',
    'true',
    '',
    '\t',
    ',',
  ],
].map((coding) =>
  refused(`Transfer-Encoding: ${JSON.stringify(coding)}`, withFields(`Transfer-Encoding: ${coding}\r\n`)),
);

const codingSpellings = [
  passes('CHUNKED', `${START}Transfer-Encoding: CHUNKED\r\n\r\n2\r\nhi\r\n${LAST}`),
  passes('TRANSFER-ENCODING:chunked', `${START}TRANSFER-ENCODING:chunked\r\n\r\n2\r\nhi\r\n${LAST}`),
  atMost(1, 'chunked between blanks', `${START}Transfer-Encoding: \t chunked \t\r\n\r\n2\r\nhi\r\n${LAST}`),
  refused('a blank before the colon', withFields('Transfer-Encoding : chunked\r\n')),
  refused('a tab before the colon', withFields('Transfer-Encoding\t: chunked\r\n')),
  refused('a blank within the name', withFields('Transfer Encoding: chunked\r\n')),
  refused('a NUL within the name', withFields('Transfer-Enco\x00ding: chunked\r\n')),
  refused(
    'a blank before the first field',
    `POST {P} HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: x\r\n{A}\r\n\r\n${LAST}${NEXT}`,
  ),
  refused('folded into its value', withFields('Transfer-Encoding:\r\n chunked\r\n')),
  refused('folded behind another', withFields('X-A: b\r\n Transfer-Encoding: chunked\r\n')),
  refused('behind a bare LF', withFields('X-A: b\nTransfer-Encoding: chunked\r\n')),
  refused('behind a bare CR', withFields('X-A: b\rTransfer-Encoding: chunked\r\n')),
  refused('behind CR CR LF', withFields('X-A: b\r\r\nTransfer-Encoding: chunked\r\n')),
  refused('ended by a bare LF', withFields('Transfer-Encoding: chunked\n')),
  refused('ended by a bare CR', withFields('Transfer-Encoding: chunked\rX: y\r\n')),
  refused('twice', withFields(`${CHUNKED}${CHUNKED}`)),
  refused('once, then something else', withFields(`${CHUNKED}Transfer-Encoding: x\r\n`)),
  refused('something else, then once', withFields(`Transfer-Encoding: x\r\n${CHUNKED}`)),
  refused('once, then empty', withFields(`${CHUNKED}Transfer-Encoding:\r\n`)),
  refused('in HTTP/1.0', `POST {P} HTTP/1.0\r\n{A}\r\n${CHUNKED}\r\n${LAST}${NEXT}`),
  refused('in HTTP/1.0 with a length', `POST {P} HTTP/1.0\r\n{A}\r\nContent-Length: 5\r\n${CHUNKED}\r\n${LAST}${NEXT}`),
];

const lengths = [
  ...['+5', '-5', '-0', '0x5', '5,5', '5, 5', '5;', '5 5', '5.0', '5e0', '"5"', 'five', '5\x0b', '\x0b5', '5\x00'],
  ...['\x005', '5\xa0', '\xb2', '99999999999999999999', '18446744073709551621', '1_000', '5,', ',5', '\t5\t5', '0,5'],
].map((length) =>
  refused(`Content-Length: ${JSON.stringify(length)}`, withFields(`Content-Length: ${length}\r\n`, 'hello')),
);

const lengthSpellings = [
  refused('an empty length', withFields('Content-Length:\r\n', 'hello')),
  refused('the same length twice', withFields('Content-Length: 5\r\nContent-Length: 5\r\n', 'hello')),
  refused('two lengths', withFields('Content-Length: 5\r\nContent-Length: 6\r\n', 'hello')),
  refused('a length of 0 and another', withFields('Content-Length: 0\r\ncontent-length: 5\r\n', 'hello')),
  refused('a length before a blank and colon', withFields('Content-Length : 5\r\n', 'hello')),
  refused('a folded length', withFields('Content-Length:\r\n 5\r\n', 'hello')),
  refused('a length in two folds', withFields('Content-Length: 5\r\n 0\r\n', 'hello')),
  passes('a length with zeros before it', `${START}Content-Length: 0000000005\r\n\r\nhello`),
  passes('a length between blanks', `${START}Content-Length: \t 5 \t\r\n\r\nhello`),
];

/** A chunked body; what follows its last chunk is a request of its own only where all of it is well-formed. */
const chunks = (body: string): string => `${START}${CHUNKED}\r\n${body}`;
const badChunks: [string, string][] = [
  ['a size with 0x', `0x5\r\nhello\r\n${LAST}`],
  ['a size with a plus', `+5\r\nhello\r\n${LAST}`],
  ['a size with a minus', `-5\r\nhello\r\n${LAST}`],
  ['a size behind a blank', ` 5\r\nhello\r\n${LAST}`],
  ['a size before a tab', `5\t\r\nhello\r\n${LAST}`],
  ['a size with an underscore', `1_0\r\n${'x'.repeat(16)}\r\n${LAST}`],
  ['a size of letters', `g\r\nhello\r\n${LAST}`],
  ['no size', `\r\nhello\r\n${LAST}`],
  ['a size before a NUL', `5\x00\r\nhello\r\n${LAST}`],
  ['a size of 17 digits', `10000000000000005\r\nhello\r\n${LAST}`],
  ['a size beyond 64 bits', `FFFFFFFFFFFFFFFFFF\r\nhello\r\n${LAST}`],
  ['a size that is -1 in 64 bits', `FFFFFFFFFFFFFFFF\r\nhello\r\n${LAST}`],
  ['a size ended by LF', `5\nhello\r\n${LAST}`],
  ['a size ended by CR', `5\rhello\r\n${LAST}`],
  ['a chunk ended by LF', `5\r\nhello\n${LAST}`],
  ['a chunk ended by CR', `5\r\nhello\r${LAST}`],
  ['a chunk without an end', `5\r\nhello${LAST}`],
  ['a chunk shorter than its size', `7\r\nhello\r\n${LAST}`],
  ['a chunk longer than its size', `3\r\nhello\r\n${LAST}`],
  ['a chunk longer than its size by what looks like an end', `5\r\nhelloXX${LAST}`],
  ['an extension with a bare LF', `5;a\nhello\r\n${LAST}`],
  ['an extension with a bare CR', `5;a\rb\r\nhello\r\n${LAST}`],
  ['an extension with a NUL', `5;a=\x00\r\nhello\r\n${LAST}`],
  ['an extension whose quotes hold a line end', `5;a="\r\nhello"\r\n${LAST}`],
  ['an extension of 20 KB', `5;${'a'.repeat(20_000)}\r\nhello\r\n${LAST}`],
  ['a last chunk ended by LF', '5\r\nhello\r\n0\n\n'],
  ['a last chunk ended by CR LF LF', '5\r\nhello\r\n0\r\n\n'],
  ['a last chunk with a size of -0', '5\r\nhello\r\n-0\r\n\r\n'],
  ['a trailer with a bare LF', '5\r\nhello\r\n0\r\nX: y\nZ: w\r\n\r\n'],
  ['a trailer with a blank before the colon', '5\r\nhello\r\n0\r\nX : y\r\n\r\n'],
  ['a trailer of 20 KB', `5\r\nhello\r\n0\r\nX: ${'y'.repeat(20_000)}\r\n\r\n`],
  ['a trailer without a colon', '5\r\nhello\r\n0\r\nX\r\n\r\n'],
];

const chunkedBodies = [
  // The head was good, so its request may have begun to go up; it never ends well, and nothing follows it.
  ...badChunks.map(([name, body]) => atMost(1, name, `${chunks(body)}${NEXT}`)),
  passes('sizes with zeros before them', chunks(`0000000000000005\r\nhello\r\n00\r\n\r\n`)),
  passes('sizes in capitals and small letters', chunks(`A\r\n0123456789\r\na\r\n0123456789\r\n${LAST}`)),
  passes('an extension', chunks(`5;a="b;c"\r\nhello\r\n0;d\r\n\r\n`)),
  atMost(
    1,
    'trailers that would frame',
    chunks('5\r\nhello\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: x\r\n\r\n'),
  ),
  atMost(2, 'extensions of 20 KB', `${chunks(`5${';a=b'.repeat(5_000)}\r\nhello\r\n${LAST}`)}${NEXT}`),
  passes('trailers that would route', chunks('5\r\nhello\r\n0\r\nHost: evil\r\nAuthorization: Bearer mine\r\n\r\n')),
  passes('a request within a chunk', chunks(`5\r\nGET /\r\n${LAST}`)),
  passes('another request behind the last chunk', chunks(`5\r\nhello\r\n${LAST}${NEXT}`), 2),
  passes('an empty body in chunks', chunks(LAST)),
  passes('chunks on GET', `${GET}${CHUNKED}\r\n5\r\nhello\r\n${LAST}${NEXT}`, 2),
];

const lines = [
  refused('bare LF everywhere', 'GET {P} HTTP/1.1\nHost: x\n{A}\n\n'),
  refused('a bare LF behind the request line', 'GET {P} HTTP/1.1\nHost: x\r\n{A}\r\n\r\n'),
  refused('a bare CR behind the request line', 'GET {P} HTTP/1.1\rHost: x\r\n{A}\r\n\r\n'),
  refused('a head ended by LF LF', `GET {P} HTTP/1.1\r\nHost: x\r\n{A}\n\n${NEXT}`),
  refused('a head ended by CR LF CR', `${GET}\rGET {S} HTTP/1.1\r\n\r\n`),
  refused('a folded field', `${GET}X-A: b\r\n c\r\n\r\n`),
  refused('a field folded by a tab', `${GET}X-A: b\r\n\tc\r\n\r\n`),
  refused('an Authorization in two folds', 'GET {P} HTTP/1.1\r\nHost: x\r\nX: y\r\n {A}\r\n\r\n'),
  refused('a field without a colon', `${GET}X-A\r\n\r\n`),
  refused('a field without a name', `${GET}: b\r\n\r\n`),
  refused('a field with a blank in its name', `${GET}X A: b\r\n\r\n`),
  refused('a field with a blank before its colon', `${GET}X-A : b\r\n\r\n`),
  ...['\x00', '\x01', '\x08', '\x0b', '\x0c', '\x1f', '\x7f'].flatMap((control) => [
    refused(`the control ${JSON.stringify(control)} in a value`, `${GET}X-A: b${control}c\r\n\r\n`),
    refused(`the control ${JSON.stringify(control)} in a name`, `${GET}X-A${control}: b\r\n\r\n`),
  ]),
  ...['(', ')', ',', '/', '<', '=', '@', '[', '{', '}', '"', '\x80', '\xff'].map((bad) =>
    refused(`${JSON.stringify(bad)} in a name`, `${GET}X${bad}A: b\r\n\r\n`),
  ),
  passes('line ends before the request line', `\r\n\r\n${GET}\r\n`),
  refused('a blank before the request line', ` ${GET}\r\n`),
  passes('bytes beyond ASCII in a value', `${GET}X-A: \xe5\x98\x8d\xe5\x98\x8a\xff\r\n\r\n`),
  passes('what decodes to a line end in a value', `${GET}X-A: %0d%0aHost: evil%0d%0a%0d%0aGET {S}\r\n\r\n`),
  passes('a name with an underscore', `${GET}X_A: b\r\n\r\n`),
  passes('a name of every odd character there may be', `${GET}!#$%&'*+-.^_\`|~: b\r\n\r\n`),
  passes('an empty value', `${GET}X-A:\r\n\r\n`),
];

const requestLines = [
  refused('HTTP/0.9', 'GET {P}\r\n\r\n'),
  refused('HTTP/2.0', `GET {P} HTTP/2.0\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('HTTP/1.2', `GET {P} HTTP/1.2\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('HTTP/1.10', `GET {P} HTTP/1.10\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('HTTP/01.1', `GET {P} HTTP/01.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('http/1.1', `GET {P} http/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  // Node does not tell it from HTTP/1.0, and it means the same here.
  atMost(1, 'RTSP/1.0', `GET {P} RTSP/1.0\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('two versions', `GET {P} HTTP/1.1 HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('two targets', `GET {P} {S} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('a method in small letters', `get {P} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('an unknown method', `SMUGGLE {P} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('no method', ` {P} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('a method with a colon', `GET: {P} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('a tab behind the method', `GET\t{P} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('an absolute target', `GET http://x{P} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('an absolute target elsewhere', `GET http://169.254.169.254/ HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('an absolute target that is no URL', `GET http://[::1{P} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('an absolute target with a strange scheme', `GET gopher://x{P} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('an authority as target', `GET x:80 HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('an asterisk as target', `OPTIONS * HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('a target with a fragment', `GET {P}#x HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('a target with a NUL', `GET {P}\x00 HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('a target beyond ASCII', `GET {P}\xe9 HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('a target with encoded line ends', `GET {P}%0d%0aHost:%20evil HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('a query with encoded line ends', `GET {P}?a=%0D%0A%0D%0AGET%20/ HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('a target of two slashes', `GET /{P} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('a target of 9 KB', `GET {P}/${'a'.repeat(9_000)} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('a target of 20 KB', `GET {P}/${'a'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('CONNECT to the upstream', `CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n${NEXT}`),
  refused('CONNECT to a path', `CONNECT {P} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n${NEXT}`),
  refused('TRACE', `TRACE {P} HTTP/1.1\r\nHost: x\r\n{A}\r\n\r\n`),
  refused('the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00'),
  refused('a TLS hello', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'),
  passes('HTTP/1.0', `GET {P} HTTP/1.0\r\n{A}\r\n\r\n`),
];

const fields = [
  refused('no Host', `GET {P} HTTP/1.1\r\n{A}\r\n\r\n`),
  refused('two Hosts', `${GET}Host: y\r\n\r\n`),
  refused('the same Host twice', `${GET}host: x\r\n\r\n`),
  passes('a Host that is not Warder’s', `GET {P} HTTP/1.1\r\nHost: evil.example:1@x/../\r\n{A}\r\n\r\n`),
  passes('an empty Host', `GET {P} HTTP/1.1\r\nHost:\r\n{A}\r\n\r\n`),
  // Node gives the first of two; RFC 9110 §5.3 allows neither.
  atMost(1, 'two Authorizations', `${GET}{A}\r\n\r\n`),
  refused(
    'Authorization named in Connection is used here, not there',
    `${GET}Host: x\r\nConnection: Authorization\r\n\r\n`,
  ),
  passes(
    'h2c',
    `${GET}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n`,
  ),
  passes(
    'websocket',
    `${GET}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n`,
  ),
  passes('Upgrade with a body', `${START}Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi`),
  passes(
    'Connection: everything',
    `${GET}Connection: Host, Authorization, Content-Length, close, close, X\r\nX: y\r\n\r\n`,
  ),
  passes('TE: chunked', `${GET}TE: chunked, trailers\r\n\r\n`),
  refused('an Expect that is not 100-continue', `${START}Expect: 200-ok\r\nContent-Length: 2\r\n\r\nhi`),
  passes('Expect with its body at once', `${START}Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi${NEXT}`, 2),
  passes(
    'methods in other fields',
    `${GET}X-HTTP-Method-Override: DELETE\r\nX-Original-URL: {S}\r\nX-Rewrite-URL: {S}\r\n\r\n`,
  ),
  refused('a field of 17 KB', `${GET}X-A: ${'a'.repeat(17_000)}\r\n\r\n`),
  refused('a name of 17 KB', `${GET}${'a'.repeat(17_000)}: b\r\n\r\n`),
  refused('many fields, 17 KB in all', `${GET}${'X-A: b\r\n'.repeat(2_200)}\r\n`),
  refused('2000 fields of four bytes', `${GET}${'a:\r\n'.repeat(2_000)}\r\n`),
  // What does not fit into Node's list of fields must not vanish: the last decides what the message is.
  refused('a length behind 2000 fields', `${START}${'a:\r\n'.repeat(2_000)}Content-Length: 5\r\n\r\nhello${NEXT}`),
  refused('chunks behind 2000 fields', `${START}${'a:\r\n'.repeat(2_000)}${CHUNKED}\r\n${LAST}${NEXT}`),
  atMost(1, 'a length behind 1100 fields', `${START}${'a:\r\n'.repeat(1_100)}Content-Length: 2\r\n\r\nhi`),
  atMost(1, 'a second Host behind 1100 fields', `${GET}${'a:\r\n'.repeat(1_100)}Host: evil\r\n\r\n`),
  passes('a field of 12 KB', `${GET}X-A: ${'a'.repeat(12_000)}\r\n\r\n`),
  passes('900 fields', `${GET}${'a: b\r\n'.repeat(900)}\r\n`),
];

const rows = [
  passes('two requests at once', `${GET}\r\n${NEXT}`, 2),
  passes('a body that is a request', `${START}Content-Length: 16\r\n\r\nGET / HTTP/1.1\r\n`),
  passes('a body on GET, then another request', `${GET}Content-Length: 5\r\n\r\nhello${NEXT}`, 2),
  passes(
    'a body on HEAD, then another request',
    `HEAD {P} HTTP/1.1\r\nHost: x\r\n{A}\r\nContent-Length: 5\r\n\r\nhello${NEXT}`,
    2,
  ),
  passes(
    'a body on DELETE, then another request',
    `DELETE {P} HTTP/1.1\r\nHost: x\r\n{A}\r\nContent-Length: 5\r\n\r\nhello${NEXT}`,
    2,
  ),
  atMost(1, 'a request behind one that closes', `${GET}Connection: close\r\n\r\n${NEXT}`),
  atMost(
    1,
    'a request behind a refused one with a body',
    `POST {S}//x HTTP/1.1\r\nHost: x\r\n{A}\r\nContent-Length: 5\r\n\r\nhello${GET}\r\n`,
  ),
  refused(
    'a request in the body of a refused one',
    `POST {P}//x HTTP/1.1\r\nHost: x\r\n{A}\r\nContent-Length: 400\r\n\r\n${NEXT}`,
  ),
  refused(
    'a request in the chunks of a refused one',
    `POST {P}//x HTTP/1.1\r\nHost: x\r\n{A}\r\n${CHUNKED}\r\n190\r\n${NEXT}`,
  ),
  refused(
    'a request in the body of a stranger’s',
    `POST {P} HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n${NEXT}`,
  ),
  atMost(1, 'a length longer than what comes', `${START}Content-Length: 400\r\n\r\n${NEXT}`),
  // Refused where the garbage is seen before the answer began.
  atMost(1, 'garbage behind a request', `${GET}\r\n\x00\x01garbage\r\n\r\n`),
  passes('a request that is cut off behind a whole one', `${GET}\r\nGET {S} HTTP/1.1\r\nHost: x\r\n{A}\r\n`),
];

export const SMUGGLING: readonly SmugglingCase[] = [
  ...lengthAndChunks,
  ...codings,
  ...codingSpellings,
  ...lengths,
  ...lengthSpellings,
  ...chunkedBodies,
  ...lines,
  ...requestLines,
  ...fields,
  ...rows,
];
