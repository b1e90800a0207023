/**
 * Environment and file → {@link Config} + {@link Secrets}, once, at start.
 *
 * Everything is checked before anything opens, and every problem is reported at once. Configuration is what may be
 * shown (a support bundle, `warder doctor`); secrets are a separate type. No message ever repeats a value: a token set
 * in the wrong variable by mistake must not end up in a log for it.
 */
import { isIP, isIPv4, isIPv6 } from 'node:net';
import { join } from 'node:path';
import { isMap, isScalar, LineCounter, parseDocument } from 'yaml';
import { type KeyServiceName, readKeyServiceName } from './domain/key-service-name.ts';
import { SecretText } from './domain/secret-text.ts';
import { tokenRowId } from './domain/tokens.ts';

/** Every key, as spelled in the environment and in the file. Each has a `_FILE` variant: the file that holds the value. */
export const configKeys = [
  'WARDER_LISTEN',
  'WARDER_PUBLIC_URL',
  'WARDER_DATA_DIR',
  'WARDER_STORE',
  'WARDER_KMS',
  'WARDER_VAULT_ADDR',
  'WARDER_VAULT_TOKEN',
  'WARDER_VAULT_NAMESPACE',
  'WARDER_VAULT_CACERT',
  'WARDER_LOG_LEVEL',
  'WARDER_METRICS_LISTEN',
  'WARDER_KEY_MAX_AGE_SECONDS',
  'WARDER_BOOTSTRAP_TOKEN',
  'WARDER_RATE_LIMIT_PER_SECOND',
  'WARDER_TRUST_PROXY',
  'WARDER_CATALOG_DIR',
  'WARDER_ROTATE_SCRIPTS',
] as const;

export type ConfigKey = (typeof configKeys)[number];

const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;

export type LogLevel = (typeof logLevels)[number];

/** Where to listen. */
export interface ListenAddress {
  /** An IP address in canonical spelling, IPv6 without brackets, or a host name in lower case. */
  readonly host: string;
  /** 0 to 65535; 0 lets the system choose. */
  readonly port: number;
}

export interface VaultAccess {
  readonly address: string;
  readonly namespace: string | undefined;
  /** A file with the certificates of the authorities to trust, PEM. */
  readonly caCertPath: string | undefined;
}

export interface Config {
  readonly listen: ListenAddress;
  /** The issuer (RFC 8414 section 2), byte for byte as configured: an absolute URL without a slash at its end. */
  readonly publicUrl: string;
  /** A directory; a relative one, like every relative path here, is relative to the working directory. */
  readonly dataDir: string;
  readonly store: { readonly kind: 'sqlite'; readonly path: string };
  readonly kms: KeyServiceName;
  /** Where `vault-transit` keys are; needed as soon as one is used. */
  readonly vault: VaultAccess | undefined;
  readonly logLevel: LogLevel;
  /** Serves `/metrics` without a token; undefined: only the HTTP edge does, to operators. */
  readonly metricsListen: ListenAddress | undefined;
  /** Age after which an unwrapped root key must be confirmed with the key service again. */
  readonly keyMaxAgeSeconds: number;
  /** Requests each agent, or each address where no agent is known yet, may make in a second. */
  readonly rateLimitPerSecond: number;
  /** Proxies whose `X-Forwarded-For` is believed: addresses and CIDR blocks; empty: nobody's. */
  readonly trustProxy: readonly string[];
  /** A folder of presets beside the built-in ones; undefined: none. */
  readonly catalogDir: string | undefined;
  /** The folder whose executables may be named as rotation scripts; undefined: none are run. */
  readonly rotateScripts: string | undefined;
}

export interface Secrets {
  /** An operator token chosen in advance, for unattended set-up. */
  readonly bootstrapToken: SecretText | undefined;
  /** With the right to use the transit keys, and nothing else. */
  readonly vaultToken: SecretText | undefined;
}

export interface ConfigInput {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The text of `warder.yaml` and the path it came from, which only serves for messages. */
  readonly file?: { readonly path: string; readonly text: string } | undefined;
  /** Reads what a `_FILE` key names, as UTF-8; throws as `fs.readFileSync` does. */
  readonly readFile: (path: string) => string;
}

export type ConfigResult =
  | { readonly ok: true; readonly config: Config; readonly secrets: Secrets }
  | { readonly ok: false; readonly problems: readonly string[] };

/** What a parser answers when a text does not fit: the rule it broke, without the text. */
class Unfit {
  readonly rule: string;
  constructor(rule: string) {
    this.rule = rule;
  }
}
type Parse<T> = (text: string) => T | Unfit;

// ---- what a value may look like ----------------------------------------------------------------------------------

const hostName = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/i;

/** `host` is an address in canonical spelling or a host name. RFC 6761 section 6.3 reserves `localhost` and below. */
const isLoopback = (host: string): boolean =>
  host === 'localhost' || host.endsWith('.localhost') || host === '::1' || (isIPv4(host) && host.startsWith('127.'));

/** How URL parsers spell a host, brackets removed; undefined when it is none. `127.1` and `0x7f.1` become 127.0.0.1. */
const urlHost = (host: string): string | undefined => URL.parse(`http://${host}/`)?.hostname.replace(/^\[|\]$/g, '');

const listenRule = 'must be host:port, e.g. 127.0.0.1:7300 or [::1]:7300 (0.0.0.0 or [::] for every address)';

const listenAddress: Parse<ListenAddress> = (text) => {
  const [, written = '', digits] = /^(\[[^\]]+\]|[^:[\]]+):(0|[1-9]\d{0,4})$/.exec(text) ?? [];
  const host = urlHost(written);
  const port = Number(digits);
  // Short, octal and hexadecimal spellings of an IPv4 address name one machine here and another one elsewhere.
  const plain = written.startsWith('[') || (hostName.test(written) && host === written.toLowerCase());
  return host !== undefined && plain && port <= 65_535 ? { host, port } : new Unfit(listenRule);
};

const httpUrl = ({ host, port }: ListenAddress): string => `http://${isIPv6(host) ? `[${host}]` : host}:${port}`;

/** RFC 8414 section 2 (no query, no fragment) and RFC 3986 section 2 (the characters a URL is made of). */
const publicUrl: Parse<string> = (text) => {
  const found = /^(https?):\/\/(\[[0-9a-f:.]+\]|[\w.-]+)(:\d{1,5})?((?:\/[\w.~!$&'()*+,;=:@%-]+)*)$/i.exec(text);
  const url = URL.parse(text);
  const [, scheme, host = '', , path = ''] = found ?? [];
  // Text that URL parsers would rewrite (dot segments, `%2e`) cannot be an issuer: clients compare it as it is.
  if (!url || (scheme !== 'http' && scheme !== 'https') || url.pathname !== (path || '/')) {
    return new Unfit(
      'must be an http or https URL with nothing but host, port and path: no user, query, fragment or slash at its end',
    );
  }
  if (scheme === 'http' && !isLoopback(urlHost(host) ?? '')) {
    return new Unfit('must begin with https:// unless its host is a loopback address: it carries tokens');
  }
  return text;
};

const filePath: Parse<string> = (text) =>
  // `sqlite://data/x` would mean /data/x: a habit from URLs, and not what was meant.
  text.startsWith('//') ? new Unfit('must name a path with at most one slash at its start') : text;

const afterScheme = (text: string, scheme: string): string | Unfit =>
  text.length > scheme.length ? filePath(text.slice(scheme.length)) : new Unfit(`needs a path after ${scheme}`);

const store: Parse<Config['store']> = (text) => {
  if (/^postgres(?:ql)?:/i.test(text)) return new Unfit('PostgreSQL is not in this version yet; use sqlite:<path>');
  if (!text.startsWith('sqlite:')) return new Unfit('must be sqlite:<path>');
  const path = afterScheme(text, 'sqlite:');
  if (path instanceof Unfit) return path;
  // What is acknowledged must be on disk; SQLite's in-memory and URI names are not files.
  return /^(?::|file:)/i.test(path) ? new Unfit('must name a file: sqlite:<path>') : { kind: 'sqlite', path };
};

const kms: Parse<KeyServiceName> = (text) => {
  const read = readKeyServiceName(text);
  return read.ok ? read.value : new Unfit(read.rule);
};

/** Vault is sent what seals everything: in clear only on this machine. */
const vaultAddress: Parse<string> = (text) => {
  const url = publicUrl(text);
  return url instanceof Unfit
    ? new Unfit('must be the URL of the Vault server, https:// unless its host is a loopback address')
    : url;
};

const vaultNamespace: Parse<string> = (text) =>
  /^[\w-]+(?:\/[\w-]+)*\/?$/.test(text) ? text : new Unfit('must be names of letters, digits, _ and -, with / between');

const vaultToken: Parse<SecretText> = (text) =>
  /^[\x21-\x7e]{1,4096}$/.test(text) ? new SecretText(text) : new Unfit('must be a token of Vault: visible ASCII');

const logLevel: Parse<LogLevel> = (text) =>
  logLevels.find((level) => level === text) ?? new Unfit(`must be one of ${logLevels.join(', ')}`);

const wholeNumber =
  (least: number, most: number, unit: string): Parse<number> =>
  (text) => {
    const number = /^(?:0|[1-9]\d{0,9})$/.test(text) ? Number(text) : Number.NaN;
    return number >= least && number <= most
      ? number
      : new Unfit(`must be a whole number of ${unit}, ${least} to ${most}`);
  };

const isBlock = (text: string): boolean => {
  const [address = '', bits, ...rest] = text.split('/');
  const family = address.includes('%') ? 0 : isIP(address);
  if (family === 0 || rest.length > 0) return false;
  // A block of length 0 is everybody: whoever connects could then name any client address.
  return bits === undefined || (/^[1-9]\d{0,2}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128));
};

const proxies: Parse<readonly string[]> = (text) => {
  const blocks = text.split(',').map((block) => block.trim());
  return blocks.every(isBlock)
    ? blocks
    : new Unfit('must be IP addresses and CIDR blocks (of at least one bit), separated by commas');
};

const operatorToken: Parse<SecretText> = (text) =>
  tokenRowId('operator', text) === undefined
    ? new Unfit('must be an operator token: wdr_op_, 26 characters of an id, 43 characters base64url')
    : new SecretText(text);

// ---- where values come from --------------------------------------------------------------------------------------

/** A value, the place to name when it is wrong, and what is already known to be wrong with it. */
interface Given {
  readonly text: string;
  readonly where: string;
  readonly rule?: string;
}
type Source = Map<string, Given>;

/** Variables of the command line client: theirs to read, not ours to refuse. */
const clientKeys: readonly string[] = ['WARDER_URL', 'WARDER_TOKEN', 'WARDER_TOKEN_FILE', 'WARDER_CONFIG'];
const allKeys: readonly string[] = configKeys.flatMap((key) => [key, `${key}_FILE`]);

/**
 * Kubernetes puts variables of this form into every pod of a namespace that has a service called `warder` or
 * `warder-…` (documented as "Docker links compatible variables"): nobody wrote them, so nobody can be told to.
 */
const isServiceLink = (name: string, value: string): boolean =>
  /^WARDER_(?:\w+_)?(?:SERVICE_(?:HOST|PORT(?:_\w+)?)|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)$/.test(
    name,
  ) ||
  (/^WARDER_(?:\w+_)?PORT$/.test(name) && /^(?:tcp|udp|sctp):\/\//.test(value));

/** Levenshtein: how many characters to insert, remove or replace to get from `a` to `b`. */
const editDistance = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, char] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries()) {
      const replaced = (row[j] ?? 0) + (char === other ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
};

const unknownKey = (name: string): string => {
  // A key that was meant as a value, e.g. a token after a forgotten colon, is not repeated.
  if (!/^[a-z][\w.-]{0,47}$/i.test(name) || /wdr_/.test(name)) return 'unknown key';
  const bare = name.toUpperCase().replaceAll(/[.-]/g, '_');
  const likely = bare.startsWith('WARDER_') ? bare : `WARDER_${bare}`;
  const [nearest] = allKeys
    .map((key) => ({ key, distance: editDistance(likely, key) }))
    .sort((a, b) => a.distance - b.distance);
  // Three edits still look like a slip of the fingers; more is another word.
  if (nearest && nearest.distance <= 3) return `unknown key ${name}; did you mean ${nearest.key}?`;
  return `unknown key ${name}; the keys are ${configKeys.join(', ')}`;
};

const fromEnvironment = (env: ConfigInput['env'], problems: string[]): Source => {
  const source: Source = new Map();
  for (const [name, text] of Object.entries(env)) {
    if (text === undefined || !name.startsWith('WARDER_') || clientKeys.includes(name)) continue;
    if (/^WARDER_(?:TEST|BENCH)_/.test(name) || isServiceLink(name, text)) continue;
    if (allKeys.includes(name)) source.set(name, { text, where: name });
    else problems.push(unknownKey(name));
  }
  return source;
};

const fromFile = (file: ConfigInput['file'], problems: string[]): Source => {
  const source: Source = new Map();
  if (!file) return source;
  const lines = new LineCounter();
  // 'failsafe' reads every scalar as the text it is: 3600 stays "3600", a URL stays byte for byte. Pretty errors quote
  // the source and the plain ones its words, so only the code and the place of an error are used.
  const document = parseDocument(file.text, {
    schema: 'failsafe',
    stringKeys: true,
    prettyErrors: false,
    lineCounter: lines,
  });
  const at = (offset: number): string => `${file.path} line ${lines.linePos(offset).line}`;
  const errors = [...document.errors, ...document.warnings];
  for (const { code, pos } of errors) {
    problems.push(`${at(pos[0])}: ${code === 'DUPLICATE_KEY' ? 'the same key twice' : `not valid YAML (${code})`}`);
  }
  if (errors.some(({ code }) => code !== 'DUPLICATE_KEY')) return source;
  const { contents } = document;
  if (contents === null || (isScalar(contents) && contents.value === '')) return source;
  if (!isMap(contents)) {
    problems.push(`${file.path}: must be a mapping of keys to values, one a line: KEY: value`);
    return source;
  }
  for (const { key, value } of contents.items) {
    const place = at(key.range[0]);
    const name = isScalar(key) && typeof key.value === 'string' ? key.value : '';
    if (clientKeys.includes(name)) {
      problems.push(`${place}: ${name} belongs to the command line client; set it in the environment`);
    } else if (!allKeys.includes(name)) {
      problems.push(`${place}: ${unknownKey(name)}`);
    } else if (!isScalar(value) || typeof value.value !== 'string') {
      // Aliases stop here too, so none is ever expanded.
      problems.push(`${place}: ${name} must be a single value: no list, mapping or alias`);
    } else {
      source.set(name, { text: value.value, where: `${name} (${place})` });
    }
  }
  return source;
};

/** The value of a key in the first source that has it, `_FILE` resolved; undefined when none has it. */
const givenFor = (key: ConfigKey, sources: readonly Source[], readFile: ConfigInput['readFile']): Given | undefined => {
  const source = sources.find((each) => each.has(key) || each.has(`${key}_FILE`));
  const direct = source?.get(key);
  const byFile = source?.get(`${key}_FILE`);
  if (direct && byFile) return { ...direct, rule: `is given by ${byFile.where} too; keep one of the two` };
  if (direct || !byFile) return direct;
  try {
    // One line end, which editors and `echo` add, is not part of the value.
    return { text: readFile(byFile.text).replace(/\r?\n$/, ''), where: byFile.where };
  } catch (error) {
    const code = typeof error === 'object' && error && 'code' in error ? String(error.code) : 'unknown error';
    return { ...byFile, rule: `the file it names cannot be read (${code})` };
  }
};

/** @returns what keeps a text from being a value of any key, or undefined */
const unfitText = (text: string): string | undefined => {
  if (text === '') return 'is empty; give it a value or leave it out';
  if (/\p{Cc}/u.test(text)) return 'must be one line without control characters';
  return text.trim() === text ? undefined : 'has white space at its start or end';
};

const isEveryAddress = (host: string): boolean => host === '0.0.0.0' || host === '::';

const collide = (a: ListenAddress, b: ListenAddress): boolean =>
  a.port === b.port && a.port !== 0 && (a.host === b.host || isEveryAddress(a.host) || isEveryAddress(b.host));

type Take = <T>(key: ConfigKey, parse: Parse<T>, otherwise: (given: boolean) => T) => T;

const vaultAccess = (take: Take): VaultAccess | undefined => {
  const given = {
    address: take<string | undefined>('WARDER_VAULT_ADDR', vaultAddress, () => undefined),
    namespace: take<string | undefined>('WARDER_VAULT_NAMESPACE', vaultNamespace, () => undefined),
    caCertPath: take<string | undefined>('WARDER_VAULT_CACERT', filePath, () => undefined),
  };
  return given.address === undefined ? undefined : Object.freeze({ ...given, address: given.address });
};

/**
 * Reads and checks the whole configuration. The environment wins over the file, key by key, however either gives the
 * value. A key given both directly and by its `_FILE` variant in one of them is a problem; so is a key nobody knows.
 *
 * @returns both halves, frozen; or every problem found, one line each, none of which repeats a configured value
 */
export const readConfig = (input: ConfigInput): ConfigResult => {
  const problems: string[] = [];
  const sources = [fromEnvironment(input.env, problems), fromFile(input.file, problems)];

  /** A wrong value is reported, then read as the default, so that what depends on it is checked all the same. */
  const take: Take = (key, parse, otherwise) => {
    const given = givenFor(key, sources, input.readFile);
    if (!given) return otherwise(false);
    const rule = given.rule ?? unfitText(given.text);
    const value = rule === undefined ? parse(given.text) : new Unfit(rule);
    if (!(value instanceof Unfit)) return value;
    problems.push(`${given.where}: ${value.rule}`);
    return otherwise(true);
  };

  const listen = take('WARDER_LISTEN', listenAddress, () => ({ host: '127.0.0.1', port: 7300 }));
  const dataDir = take('WARDER_DATA_DIR', filePath, () => '.warder');
  const config: Config = {
    listen: Object.freeze(listen),
    publicUrl: take('WARDER_PUBLIC_URL', publicUrl, (given) => {
      if (!given && (!isLoopback(listen.host) || listen.port === 0)) {
        problems.push(
          'WARDER_PUBLIC_URL: is needed where WARDER_LISTEN is not one loopback address and port: the URL agents call',
        );
      }
      return httpUrl(listen);
    }),
    dataDir,
    store: Object.freeze(
      take<Config['store']>('WARDER_STORE', store, () => ({ kind: 'sqlite', path: join(dataDir, 'warder.db') })),
    ),
    kms: Object.freeze(
      take<KeyServiceName>('WARDER_KMS', kms, () => ({ kind: 'local', path: join(dataDir, 'root.key') })),
    ),
    vault: vaultAccess(take),
    logLevel: take('WARDER_LOG_LEVEL', logLevel, () => 'info'),
    metricsListen: Object.freeze(
      take<ListenAddress | undefined>('WARDER_METRICS_LISTEN', listenAddress, () => undefined),
    ),
    // A minute at least, so that a key service that is down for a moment does not seal the broker; a day at most, so
    // that a key taken away at the key service stops working here on the same day.
    keyMaxAgeSeconds: take('WARDER_KEY_MAX_AGE_SECONDS', wholeNumber(60, 86_400, 'seconds'), () => 3600),
    // Far above what one agent asks for, and still a fraction of what one process serves.
    rateLimitPerSecond: take('WARDER_RATE_LIMIT_PER_SECOND', wholeNumber(1, 1_000_000, 'requests'), () => 2000),
    trustProxy: Object.freeze(take<readonly string[]>('WARDER_TRUST_PROXY', proxies, () => [])),
    catalogDir: take<string | undefined>('WARDER_CATALOG_DIR', filePath, () => undefined),
    rotateScripts: take<string | undefined>('WARDER_ROTATE_SCRIPTS', filePath, () => undefined),
  };
  const secrets: Secrets = {
    bootstrapToken: take<SecretText | undefined>('WARDER_BOOTSTRAP_TOKEN', operatorToken, () => undefined),
    vaultToken: take<SecretText | undefined>('WARDER_VAULT_TOKEN', vaultToken, () => undefined),
  };
  if (config.kms.kind === 'vault-transit') {
    if (!config.vault) problems.push('WARDER_VAULT_ADDR: is needed where WARDER_KMS is vault-transit');
    if (!secrets.vaultToken) problems.push('WARDER_VAULT_TOKEN: is needed where WARDER_KMS is vault-transit');
  }
  if (config.metricsListen && collide(config.metricsListen, listen)) {
    problems.push('WARDER_METRICS_LISTEN: must differ from WARDER_LISTEN');
  }
  if (problems.length > 0) return { ok: false, problems };
  return { ok: true, config: Object.freeze(config), secrets: Object.freeze(secrets) };
};
