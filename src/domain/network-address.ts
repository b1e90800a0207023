/**
 * Whether an address, or the host of a URL, lies on the public internet. The gateway asks before it dials, and asks
 * again about the address it really connected to: a name may resolve to anything, and differently each time.
 *
 * Reading is strict (dotted quad without leading zeros, RFC 4291 §2.2 text), because the classic hole is two parsers
 * that read one text as two addresses: `0177.0.0.1`, `2130706433`, `127.1`. Ranges are those of ipaddr.js, after the
 * IANA special-purpose registries (RFC 6890), made stricter where a comment says so.
 *
 * Not knowable here: a NAT64 prefix of the local network (RFC 6052 §2.2) looks like any public address.
 */

import ipaddr from 'ipaddr.js';

export type AddressJudgement =
  | { readonly kind: 'public' }
  /**
   * `range` is a name of ipaddr.js (`loopback`, `private`, `linkLocal`, `uniqueLocal`, `carrierGradeNat` …) or
   * `metadata`, `ipv4Compatible`, `isatap`, `reserved`. `metadata` stands apart so that a caller can refuse it even
   * where private networks are allowed.
   */
  | { readonly kind: 'private'; readonly range: string }
  | { readonly kind: 'invalid' };

export type HostJudgement =
  | AddressJudgement
  /** Only the resolved address can tell. */
  | { readonly kind: 'name' };

const PUBLIC: AddressJudgement = { kind: 'public' };
const INVALID: AddressJudgement = { kind: 'invalid' };

/**
 * Where clouds hand out credentials to whoever asks, as 16-bit groups in hexadecimal without leading zeros.
 * 168.63.129.16 (Azure) even lies in public space.
 */
const METADATA_ADDRESSES: ReadonlySet<string> = new Set([
  '169.254.169.254', // AWS, Azure, Google, Oracle, OpenStack, DigitalOcean
  '169.254.169.253', // AWS resolver
  '169.254.170.2', // AWS ECS task credentials
  '169.254.170.23', // AWS EKS pod identity
  '169.254.0.23', // Tencent
  '169.254.42.42', // Scaleway
  '100.100.100.200', // Alibaba
  '168.63.129.16', // Azure host services
  '192.0.0.192', // Oracle, classic
  'fd00:ec2:0:0:0:0:0:254', // AWS
  'fd00:ec2:0:0:0:0:0:253', // AWS resolver
  'fd00:ec2:0:0:0:0:0:23', // AWS EKS pod identity
  'fd20:ce:0:0:0:0:0:254', // Google
  'fd00:42:0:0:0:0:0:42', // Scaleway
  'fe80:0:0:0:0:0:a9fe:a9fe', // OpenStack
]);

/** Names by which clouds reach the same; other private names end in a suffix below. */
const METADATA_NAMES: ReadonlySet<string> = new Set([
  'metadata',
  'instance-data',
  'metadata.google.internal',
  'metadata.goog',
  'metadata.azure.internal',
  'metadata.tencentyun.com',
  'metadata.platformequinix.com',
  'instance-data.ec2.internal',
]);

/** RFC 6761 §6.3, RFC 6762 §3 and appendix G, RFC 8375, and ICANN's `internal`: names no public resolver answers. */
const PRIVATE_SUFFIXES: ReadonlySet<string> = new Set([
  ...['localhost', 'localdomain', 'local', 'internal', 'intranet', 'private', 'corp', 'home', 'lan'],
  'home.arpa',
]);

/** A decimal number up to 255, without leading zeros. */
const OCTET = /^(?:0|[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$/;
const GROUP = /^[0-9a-fA-F]{1,4}$/;

/** RFC 1035 labels, and the underscore that some internal hosts carry; lower case as WHATWG URL leaves them. */
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

/** A last label like this makes the WHATWG parser read the whole host as an IPv4 address. */
const NUMERIC_LABEL = /^(?:[0-9]+|0x[0-9a-f]*)$/;

/** The longest text is eight groups with a dotted quad, 45 characters (INET6_ADDRSTRLEN less its NUL). */
const MAX_ADDRESS_LENGTH = 45;
const MAX_NAME_LENGTH = 253;

/**
 * Judges the text of an address, as a resolver or `socket.remoteAddress` gives it.
 *
 * @returns `public` only for globally routable unicast. An IPv4-mapped address is judged as the IPv4 address that a
 *   connection to it reaches; other embeddings (NAT64, 6to4, Teredo, ISATAP) are private whatever they embed, as where
 *   they lead depends on the network. A zone id, a port, brackets or any other spelling is `invalid`.
 */
export function judgeAddress(ip: string): AddressJudgement {
  if (ip.length > MAX_ADDRESS_LENGTH) return INVALID;
  if (!ip.includes(':')) {
    const octets = parseOctets(ip);
    return octets === undefined ? INVALID : judgeV4(octets);
  }
  const groups = parseGroups(ip);
  return groups === undefined ? INVALID : judgeV6(groups);
}

/**
 * Judges `hostname` of a URL that the WHATWG parser has read (lower case, Punycode, brackets around IPv6).
 *
 * @returns the judgement of a literal address; `private` for names that only mean something inside a network, which
 *   includes every name of a single label; `name` for those to be resolved; `invalid` for what is neither.
 */
export function judgeHost(hostname: string): HostJudgement {
  if (hostname.startsWith('[')) {
    return hostname.endsWith(']') && hostname.includes(':') ? judgeAddress(hostname.slice(1, -1)) : INVALID;
  }
  // A final dot only says that the name is complete (RFC 1034 §3.1); `localhost.` is still this machine.
  const name = hostname.endsWith('.') ? hostname.slice(0, -1) : hostname;
  if (name.length > MAX_NAME_LENGTH) return INVALID;
  const labels = name.split('.');
  if (!labels.every((label) => LABEL.test(label))) return INVALID;
  if (NUMERIC_LABEL.test(labels.at(-1) ?? '')) return hostname === name ? judgeAddress(name) : INVALID;
  if (METADATA_NAMES.has(name)) return { kind: 'private', range: 'metadata' };
  if (PRIVATE_SUFFIXES.has(labels.slice(-1).join('.')) || PRIVATE_SUFFIXES.has(labels.slice(-2).join('.'))) {
    return { kind: 'private', range: 'localName' };
  }
  return labels.length === 1 ? { kind: 'private', range: 'singleLabel' } : { kind: 'name' };
}

function judgeV4(octets: number[]): AddressJudgement {
  const address = new ipaddr.IPv4(octets);
  if (METADATA_ADDRESSES.has(octets.join('.'))) return { kind: 'private', range: 'metadata' };
  const range = address.range();
  return range === 'unicast' ? PUBLIC : { kind: 'private', range };
}

function judgeV6(groups: number[]): AddressJudgement {
  const [first = 0, , , , fifth = 0, sixth = 0, seventh = 0, eighth = 0] = groups;
  const address = new ipaddr.IPv6(groups);
  if (METADATA_ADDRESSES.has(groups.map((group) => group.toString(16)).join(':'))) {
    return { kind: 'private', range: 'metadata' };
  }
  const range = address.range();
  if (range === 'ipv4Mapped') return judgeV4([seventh >> 8, seventh & 0xff, eighth >> 8, eighth & 0xff]);
  if (range !== 'unicast') return { kind: 'private', range };
  if (groups.slice(0, 6).every((group) => group === 0)) return { kind: 'private', range: 'ipv4Compatible' };
  // IANA has allocated 2000::/3 only (RFC 4291 §2.4); ipaddr.js calls the rest unicast as well.
  if (first >> 13 !== 1) return { kind: 'private', range: 'reserved' };
  // RFC 5214 §6.1: an interface identifier that a tunnel interface unpacks into an IPv4 address.
  if (sixth === 0x5efe && (fifth & ~0x0200) === 0) return { kind: 'private', range: 'isatap' };
  return PUBLIC;
}

function parseOctets(text: string): number[] | undefined {
  const parts = text.split('.');
  return parts.length === 4 && parts.every((part) => OCTET.test(part)) ? parts.map(Number) : undefined;
}

/** RFC 4291 §2.2: eight groups; one `::` for one or more groups of zeros; the last two may be a dotted quad. */
function parseGroups(text: string): number[] | undefined {
  const [left = '', right, ...more] = text.split('::');
  if (more.length > 0) return undefined;
  const high = parseGroupList(left, right === undefined);
  const low = parseGroupList(right ?? '', true);
  if (high === undefined || low === undefined) return undefined;
  const zeros = 8 - high.length - low.length;
  if (right === undefined ? zeros !== 0 : zeros < 1) return undefined;
  return [...high, ...Array<number>(zeros).fill(0), ...low];
}

function parseGroupList(text: string, mayEndInQuad: boolean): number[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  const last = parts.at(-1) ?? '';
  const quad = mayEndInQuad && last.includes('.') ? parseOctets(last) : [];
  if (quad === undefined) return undefined;
  const [a, b, c, d] = quad;
  const tail =
    a === undefined || b === undefined || c === undefined || d === undefined ? [] : [a * 256 + b, c * 256 + d];
  const hex = tail.length === 0 ? parts : parts.slice(0, -1);
  if (!hex.every((part) => GROUP.test(part))) return undefined;
  return [...hex.map((part) => Number.parseInt(part, 16)), ...tail];
}
