import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { describe, expect, test } from '@jest/globals';
import { type Config, type ConfigInput, configKeys, readConfig, type Secrets } from '../src/config.ts';
import { makeId } from '../src/domain/ids.ts';
import { SecretText } from '../src/domain/secret-text.ts';
import { makeToken } from '../src/domain/tokens.ts';

const token = makeToken(
  'operator',
  makeId('op', 1_790_000_000_000, new Uint8Array(10).fill(7)),
  new Uint8Array(32).fill(9),
);

interface Sources {
  env?: Record<string, string | undefined>;
  yaml?: string;
  files?: Record<string, string>;
}

const read = ({ env = {}, yaml, files = {} }: Sources) => {
  const readFile: ConfigInput['readFile'] = (path) => {
    const text = files[path];
    if (text === undefined) throw Object.assign(new Error(`no such file: ${path}`), { code: 'ENOENT' });
    return text;
  };
  return readConfig({ env, readFile, file: yaml === undefined ? undefined : { path: 'warder.yaml', text: yaml } });
};

const accepted = (sources: Sources): { config: Config; secrets: Secrets } => {
  const result = read(sources);
  if (!result.ok) throw new Error(`refused: ${result.problems.join('; ')}`);
  return result;
};
const config = (env: Record<string, string>): Config => accepted({ env }).config;

const problems = (sources: Sources): readonly string[] => {
  const result = read(sources);
  return result.ok ? [] : result.problems;
};

describe('configuration from nothing', () => {
  test('has a working default for every key', () => {
    const { config, secrets } = accepted({});
    expect(config).toEqual({
      listen: { host: '127.0.0.1', port: 7300 },
      publicUrl: 'http://127.0.0.1:7300',
      dataDir: '.warder',
      store: { kind: 'sqlite', path: '.warder/warder.db' },
      kms: { kind: 'local', path: '.warder/root.key' },
      vault: undefined,
      logLevel: 'info',
      metricsListen: undefined,
      keyMaxAgeSeconds: 3600,
      rateLimitPerSecond: 2000,
      trustProxy: [],
      catalogDir: undefined,
      rotateScripts: undefined,
    });
    expect(secrets).toEqual({ bootstrapToken: undefined, vaultToken: undefined });
  });

  test('cannot be changed afterwards', () => {
    const { config, secrets } = accepted({
      env: { WARDER_METRICS_LISTEN: '127.0.0.1:9', WARDER_BOOTSTRAP_TOKEN: token },
    });
    for (const part of [config, config.listen, config.store, config.kms, config.metricsListen, config.trustProxy]) {
      expect(Object.isFrozen(part)).toBe(true);
    }
    expect(Object.isFrozen(secrets)).toBe(true);
    expect(Object.isFrozen(secrets.bootstrapToken)).toBe(true);
  });

  test('puts store and key into the data directory', () => {
    const { store, kms } = config({ WARDER_DATA_DIR: '/data' });
    expect([store.path, kms]).toEqual(['/data/warder.db', { kind: 'local', path: '/data/root.key' }]);
  });
});

describe('sources', () => {
  const everything: Record<(typeof configKeys)[number], string> = {
    WARDER_LISTEN: '0.0.0.0:8443',
    WARDER_PUBLIC_URL: 'https://Warder.example.com:443/broker',
    WARDER_DATA_DIR: '/var/lib/warder',
    WARDER_STORE: 'sqlite:/srv/w.db',
    WARDER_KMS: 'local:/run/keys/root',
    WARDER_VAULT_ADDR: 'https://vault.example.com:8200',
    WARDER_VAULT_TOKEN: 'hvs.CAESIJ',
    WARDER_VAULT_NAMESPACE: 'platform/agents',
    WARDER_VAULT_CACERT: '/etc/ssl/vault.pem',
    WARDER_LOG_LEVEL: 'debug',
    WARDER_METRICS_LISTEN: '127.0.0.1:9464',
    WARDER_KEY_MAX_AGE_SECONDS: '60',
    WARDER_BOOTSTRAP_TOKEN: token,
    WARDER_RATE_LIMIT_PER_SECOND: '50',
    WARDER_TRUST_PROXY: '10.0.0.0/8, ::1',
    WARDER_CATALOG_DIR: '/etc/warder/catalog',
    WARDER_ROTATE_SCRIPTS: '/etc/warder/rotate',
  };
  const expected: Config = {
    listen: { host: '0.0.0.0', port: 8443 },
    publicUrl: 'https://Warder.example.com:443/broker',
    dataDir: '/var/lib/warder',
    store: { kind: 'sqlite', path: '/srv/w.db' },
    kms: { kind: 'local', path: '/run/keys/root' },
    vault: {
      address: 'https://vault.example.com:8200',
      namespace: 'platform/agents',
      caCertPath: '/etc/ssl/vault.pem',
    },
    logLevel: 'debug',
    metricsListen: { host: '127.0.0.1', port: 9464 },
    keyMaxAgeSeconds: 60,
    rateLimitPerSecond: 50,
    trustProxy: ['10.0.0.0/8', '::1'],
    catalogDir: '/etc/warder/catalog',
    rotateScripts: '/etc/warder/rotate',
  };
  const names = Object.entries(everything);
  const asYaml = (entries: [string, string][]) => entries.map(([key, value]) => `${key}: ${value}\n`).join('');
  const asFiles = names.map(([key]): [string, string] => [`${key}_FILE`, `/run/${key}`]);
  const files = Object.fromEntries(names.map(([key, value]) => [`/run/${key}`, `${value}\n`]));

  const ways: [string, Sources][] = [
    ['the environment', { env: everything }],
    ['the file', { yaml: asYaml(names) }],
    ['_FILE variables', { env: Object.fromEntries(asFiles), files }],
    ['_FILE keys of the file', { yaml: asYaml(asFiles), files }],
  ];
  test.each(ways)('%s can give every key', (_, sources) => {
    const { config, secrets } = accepted(sources);
    expect(config).toEqual(expected);
    expect(secrets.bootstrapToken?.reveal()).toBe(token);
  });

  test('the environment wins over the file, key by key, whichever way each gives the value', () => {
    const yaml = 'WARDER_LOG_LEVEL: debug\nWARDER_DATA_DIR: /from/file\n';
    expect(accepted({ env: { WARDER_LOG_LEVEL: 'warn' }, yaml }).config).toMatchObject({
      logLevel: 'warn',
      dataDir: '/from/file',
    });
    const byFile = { env: { WARDER_LOG_LEVEL_FILE: 'level' }, files: { level: 'error' }, yaml };
    expect(accepted(byFile).config.logLevel).toBe('error');
    const overridden = { env: { WARDER_LOG_LEVEL: 'warn' }, yaml: 'WARDER_LOG_LEVEL_FILE: not-there' };
    expect(accepted(overridden).config.logLevel).toBe('warn');
  });

  test('a key given directly and by _FILE in one place is refused, each place named', () => {
    expect(problems({ env: { WARDER_DATA_DIR: 'a', WARDER_DATA_DIR_FILE: 'b' }, files: { b: 'a' } })).toEqual([
      'WARDER_DATA_DIR: is given by WARDER_DATA_DIR_FILE too; keep one of the two',
    ]);
    expect(problems({ yaml: 'WARDER_DATA_DIR: a\nWARDER_DATA_DIR_FILE: b\n', files: { b: 'a' } })).toEqual([
      'WARDER_DATA_DIR (warder.yaml line 1): is given by WARDER_DATA_DIR_FILE (warder.yaml line 2) too; keep one of the two',
    ]);
  });

  test('one line end after the value in a _FILE file is dropped, anything more is refused', () => {
    const from = (text: string) => ({ env: { WARDER_DATA_DIR_FILE: 'f' }, files: { f: text } });
    for (const text of ['/data', '/data\n', '/data\r\n']) expect(accepted(from(text)).config.dataDir).toBe('/data');
    for (const text of ['/data\n\n', '/da\nta', '/data\0', ' /data', '/data ', '', '\n']) {
      expect(problems(from(text))).toHaveLength(1);
    }
  });

  test('a _FILE file that cannot be read is named by its key', () => {
    expect(problems({ env: { WARDER_BOOTSTRAP_TOKEN_FILE: '/no/such' } })).toEqual([
      'WARDER_BOOTSTRAP_TOKEN_FILE: the file it names cannot be read (ENOENT)',
    ]);
  });

  test('real files work too', () => {
    const result = readConfig({
      env: { WARDER_DATA_DIR_FILE: '/no/such/file' },
      readFile: (path) => readFileSync(path, 'utf8'),
    });
    expect(result).toEqual({
      ok: false,
      problems: ['WARDER_DATA_DIR_FILE: the file it names cannot be read (ENOENT)'],
    });
  });

  test('an empty variable is a mistake, not a default', () => {
    expect(problems({ env: { WARDER_STORE: '' } })).toEqual([
      'WARDER_STORE: is empty; give it a value or leave it out',
    ]);
    expect(problems({ yaml: 'WARDER_STORE:\n' })).toHaveLength(1);
  });
});

describe('unknown keys', () => {
  test.each([
    ['WARDER_LISTN', 'unknown key WARDER_LISTN; did you mean WARDER_LISTEN?'],
    ['WARDER_DATADIR', 'unknown key WARDER_DATADIR; did you mean WARDER_DATA_DIR?'],
    ['WARDER_KMS_FLE', 'unknown key WARDER_KMS_FLE; did you mean WARDER_KMS_FILE?'],
    ['WARDER_LISTEN_', 'unknown key WARDER_LISTEN_; did you mean WARDER_LISTEN?'],
    ['WARDER_AUTO_INITIALISE', `unknown key WARDER_AUTO_INITIALISE; the keys are ${configKeys.join(', ')}`],
  ])('%s in the environment is refused, with advice', (name, problem) => {
    expect(problems({ env: { [name]: 'x' } })).toEqual([problem]);
  });

  test.each([
    ['WARDER_LISTN: x', 'warder.yaml line 1: unknown key WARDER_LISTN; did you mean WARDER_LISTEN?'],
    ['warder_listen: x', 'warder.yaml line 1: unknown key warder_listen; did you mean WARDER_LISTEN?'],
    ['# c\nlog-level: x', 'warder.yaml line 2: unknown key log-level; did you mean WARDER_LOG_LEVEL?'],
    ['WARDER_TEST_X: x', `warder.yaml line 1: unknown key WARDER_TEST_X; the keys are ${configKeys.join(', ')}`],
    ['WARDER_URL: x', 'warder.yaml line 1: WARDER_URL belongs to the command line client; set it in the environment'],
  ])('%j in the file is refused, with advice', (yaml, problem) => {
    expect(problems({ yaml })).toEqual([problem]);
  });

  test('what belongs to the client, to tests, to Kubernetes or to others is left alone', () => {
    const env = {
      WARDER_URL: 'http://x',
      WARDER_TOKEN: token,
      WARDER_CONFIG: 'warder.yaml',
      WARDER_TEST_ANYTHING: '1',
      WARDER_BENCH_SECONDS: '1',
      WARDER_SERVICE_HOST: '10.0.0.1',
      WARDER_SERVICE_PORT: '7300',
      WARDER_SERVICE_PORT_HTTP: '7300',
      WARDER_PORT: 'tcp://10.0.0.1:7300',
      WARDER_PORT_7300_TCP: 'tcp://10.0.0.1:7300',
      WARDER_PORT_7300_TCP_PROTO: 'tcp',
      WARDER_PORT_7300_TCP_PORT: '7300',
      WARDER_PORT_7300_TCP_ADDR: '10.0.0.1',
      WARDER_METRICS_SERVICE_HOST: '10.0.0.2',
      WARDERS: 'x',
      PATH: '/bin',
      WARDER_LISTEN: undefined,
    };
    expect(problems({ env })).toEqual([]);
  });

  test('a port set by a person under the name that Kubernetes uses is still refused', () => {
    expect(problems({ env: { WARDER_PORT: '8080' } })).toHaveLength(1);
  });
});

describe('the file', () => {
  test('may be empty or only comments', () => {
    for (const yaml of ['', '\n', '# nothing yet\n', '---\n']) expect(problems({ yaml })).toEqual([]);
  });

  test.each([
    ['a list', '- a\n', 'warder.yaml: must be a mapping'],
    ['a bare text', 'WARDER_LISTEN\n', 'warder.yaml: must be a mapping'],
    ['two documents', 'WARDER_LOG_LEVEL: info\n---\nWARDER_LOG_LEVEL: warn\n', 'not valid YAML (MULTIPLE_DOCS)'],
    ['a broken quote', 'WARDER_LOG_LEVEL: "info\n', 'not valid YAML (MISSING_CHAR)'],
    ['an unknown tag', 'WARDER_LOG_LEVEL: !level info\n', 'not valid YAML (TAG_RESOLVE_FAILED)'],
    ['a list as a value', 'WARDER_TRUST_PROXY: [10.0.0.1]\n', 'WARDER_TRUST_PROXY must be a single value'],
    ['a mapping as a value', 'WARDER_STORE: { kind: sqlite }\n', 'WARDER_STORE must be a single value'],
    ['an alias', 'WARDER_DATA_DIR: &d /data\nWARDER_STORE: *d\n', 'line 2: WARDER_STORE must be a single value'],
    ['a merge key', '<<: { WARDER_LOG_LEVEL: info }\n', 'warder.yaml line 1: unknown key'],
    ['a list as a key', '? [a]\n: b\n', 'not valid YAML (NON_STRING_KEY)'],
  ])('is refused when it holds %s', (_, yaml, problem) => {
    expect(problems({ yaml })).toEqual([expect.stringContaining(problem)]);
  });

  test('is refused when it gives a key twice, and the rest is still checked', () => {
    expect(problems({ yaml: 'WARDER_LOG_LEVEL: info\nWARDER_LOG_LEVEL: warn\nWARDER_KMS: x\n' })).toEqual([
      'warder.yaml line 2: the same key twice',
      'WARDER_KMS (warder.yaml line 3): must be local:<path>, aws-kms:<key id, alias or ARN> or vault-transit:<mount>/<key>',
    ]);
  });

  test('does not explode on nested aliases', () => {
    const bomb = ['a: &a [x, x]', ...Array.from({ length: 30 }, (_, i) => `b${i}: &b${i} [*a, *a, *a]`)].join('\n');
    expect(problems({ yaml: bomb })).toHaveLength(31);
  });

  test('takes numbers as the text they are', () => {
    expect(accepted({ yaml: 'WARDER_KEY_MAX_AGE_SECONDS: 120\n' }).config.keyMaxAgeSeconds).toBe(120);
    for (const text of ['0x78', '1_20', '120.0', '+120', '1e2', '012']) {
      expect(problems({ yaml: `WARDER_KEY_MAX_AGE_SECONDS: ${text}\n` })).toHaveLength(1);
    }
  });
});

describe('WARDER_LISTEN', () => {
  const url = { WARDER_PUBLIC_URL: 'https://warder.example.com' };

  test.each([
    ['127.0.0.1:7300', '127.0.0.1', 7300],
    ['0.0.0.0:80', '0.0.0.0', 80],
    ['[::1]:7300', '::1', 7300],
    ['[::]:65535', '::', 65_535],
    ['[0:0:0:0:0:0:0:1]:7300', '::1', 7300],
    ['[2001:DB8::a]:1', '2001:db8::a', 1],
    ['LOCALHOST:7300', 'localhost', 7300],
    ['warder.internal:0', 'warder.internal', 0],
  ])('%s is read as host and port', (text, host, port) => {
    expect(config({ ...url, WARDER_LISTEN: text }).listen).toEqual({ host, port });
  });

  test.each([
    '7300',
    ':7300',
    '*:7300',
    '127.0.0.1',
    '127.0.0.1:',
    '127.0.0.1:65536',
    '127.0.0.1:-1',
    '127.0.0.1:07300',
    '127.0.0.1:7300/',
    'http://127.0.0.1:7300',
    '::1:7300',
    '[::1]',
    '[127.0.0.1]:80',
    '[::1%lo]:80',
    '[fe80::]x:80',
    '127.1:80',
    '0177.0.0.1:80',
    '0x7f.0.0.1:80',
    '2130706433:80',
    '127.0.0.256:80',
    'a b:80',
    'ho_st:80',
    '-a:80',
    '１27.0.0.1:80',
    'user@host:80',
  ])('%s is refused', (text) => {
    expect(problems({ env: { ...url, WARDER_LISTEN: text } })).toEqual([
      expect.stringMatching(/^WARDER_LISTEN: must be host:port/),
    ]);
  });
});

describe('WARDER_PUBLIC_URL', () => {
  test.each([
    'https://warder.example.com',
    'https://Warder.Example.com:443',
    'https://warder.example.com/a/b.c/~d',
    'https://[2001:db8::1]:8443',
    'http://localhost:7300',
    'http://warder.localhost',
    'http://127.9.9.9:1',
    'http://[::1]:7300',
  ])('%s is kept byte for byte', (text) => {
    expect(config({ WARDER_PUBLIC_URL: text }).publicUrl).toBe(text);
  });

  test.each([
    'https://warder.example.com/',
    'https://warder.example.com/a/',
    'https://warder.example.com//a',
    'https://warder.example.com?x',
    'https://warder.example.com?',
    'https://warder.example.com#',
    'https://u@warder.example.com',
    'https://u:p@warder.example.com',
    'https://@warder.example.com',
    'https://warder.example.com/a/../b',
    'https://warder.example.com/%2e%2e/b',
    'https://warder.example.com\\a',
    'https://warder.example.com:99999',
    'https://warder.example.com:',
    'HTTPS://warder.example.com',
    'https:/warder.example.com',
    'https:warder.example.com',
    'ftp://warder.example.com',
    'warder.example.com',
    'https://',
    'https://wärder.example.com',
    'https://a b',
  ])('%s is refused', (text) => {
    expect(problems({ env: { WARDER_PUBLIC_URL: text } })).toEqual([
      expect.stringMatching(/^WARDER_PUBLIC_URL: must be an http or https URL/),
    ]);
  });

  test.each([
    'http://warder.example.com',
    'http://10.0.0.1',
    'http://0.0.0.0:7300',
    'http://localhost.example.com',
    'http://[::2]',
  ])('%s is refused: tokens would cross a network in clear', (text) => {
    expect(problems({ env: { WARDER_PUBLIC_URL: text } })).toEqual([expect.stringContaining('https://')]);
  });

  test('follows WARDER_LISTEN where that is one loopback address and port', () => {
    expect(config({ WARDER_LISTEN: '[::1]:99' }).publicUrl).toBe('http://[::1]:99');
    expect(config({ WARDER_LISTEN: 'localhost:99' }).publicUrl).toBe('http://localhost:99');
  });

  test.each(['0.0.0.0:7300', '[::]:7300', '10.0.0.1:7300', '127.0.0.1:0'])(
    'must be given where WARDER_LISTEN is %s: no client could be told the issuer',
    (listen) => {
      expect(problems({ env: { WARDER_LISTEN: listen } })).toEqual([
        expect.stringMatching(/^WARDER_PUBLIC_URL: is needed/),
      ]);
    },
  );
});

describe('WARDER_STORE and WARDER_KMS', () => {
  test.each(['postgres://u:hunter2@db/warder', 'postgresql://db/warder', 'POSTGRES://db'])(
    'the store %s is known, and refused without repeating it',
    (text) => {
      expect(problems({ env: { WARDER_STORE: text } })).toEqual([
        'WARDER_STORE: PostgreSQL is not in this version yet; use sqlite:<path>',
      ]);
    },
  );

  const arn = 'arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';
  test.each([
    ['aws-kms:alias/warder', { kind: 'aws-kms', key: 'alias/warder' }],
    [`aws-kms:${arn}`, { kind: 'aws-kms', key: arn }],
    ['aws-kms:mrk-1234abcd12ab34cd56ef1234567890ab', { kind: 'aws-kms', key: 'mrk-1234abcd12ab34cd56ef1234567890ab' }],
  ])('the key service %s is understood', (text, expected) => {
    expect(config({ WARDER_KMS: text }).kms).toEqual(expected);
  });

  const vault = { WARDER_VAULT_ADDR: 'https://vault.example.com', WARDER_VAULT_TOKEN: 'hvs.x' };
  test('a key of Vault is its mount, which may be nested, and its name', () => {
    const read = (text: string) => config({ WARDER_KMS: text, ...vault }).kms;
    expect(read('vault-transit:transit/warder')).toEqual({ kind: 'vault-transit', mount: 'transit', key: 'warder' });
    expect(read('vault-transit:team/transit/w.1')).toEqual({
      kind: 'vault-transit',
      mount: 'team/transit',
      key: 'w.1',
    });
  });

  test('a key of Vault needs to know where Vault is, and as whom', () => {
    expect(problems({ env: { WARDER_KMS: 'vault-transit:transit/warder' } })).toEqual([
      'WARDER_VAULT_ADDR: is needed where WARDER_KMS is vault-transit',
      'WARDER_VAULT_TOKEN: is needed where WARDER_KMS is vault-transit',
    ]);
  });

  test.each(['http://vault.example.com:8200', 'vault.example.com', 'https://u:p@vault', 'https://vault/?a=b'])(
    'the address %s of Vault is refused without repeating it',
    (address) => {
      expect(problems({ env: { WARDER_VAULT_ADDR: address } })).toEqual([
        'WARDER_VAULT_ADDR: must be the URL of the Vault server, https:// unless its host is a loopback address',
      ]);
    },
  );

  test.each(['sqlite:', 'sqlite::memory:', 'sqlite:file:x?mode=memory', 'sqlite://data/x', 'mysql://x', '/data/x'])(
    'the store %s is refused',
    (text) => {
      expect(problems({ env: { WARDER_STORE: text } })).toEqual([expect.stringMatching(/^WARDER_STORE: /)]);
    },
  );

  test.each([
    'local:',
    'local://data/key',
    'none',
    'plain:x',
    'aws-kms:',
    'aws-kms:alias/',
    'aws-kms:key with blanks',
    'aws-kms:key/1234abcd-12ab-34cd-56ef-1234567890ab',
    'aws-kms:arn:aws:kms:eu-west-1:111122223333:1234abcd-12ab-34cd-56ef-1234567890ab',
    'aws-kms:arn:aws:s3:eu-west-1:111122223333:key/x',
    'vault-transit:transit',
    'vault-transit:../transit/key',
    'vault-transit:transit/..',
    'vault-transit:/transit/key',
  ])('the key service %s is refused', (text) => {
    expect(problems({ env: { WARDER_KMS: text } })).toEqual([expect.stringMatching(/^WARDER_KMS: /)]);
  });
});

describe('numbers, levels, listeners and proxies', () => {
  test.each([
    ['WARDER_KEY_MAX_AGE_SECONDS', ['60', '86400'], ['59', '86401', '1.5', '-60', '0060', 'x', '1e3', '99999999999']],
    ['WARDER_RATE_LIMIT_PER_SECOND', ['1', '1000000'], ['0', '1000001', '-1', '٣']],
    ['WARDER_LOG_LEVEL', ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], ['INFO', 'verbose', '30']],
    ['WARDER_METRICS_LISTEN', ['0.0.0.0:9464', '127.0.0.1:0'], ['9464', '127.0.0.1:7300', '0.0.0.0:7300', '[::]:7300']],
    [
      'WARDER_TRUST_PROXY',
      ['10.0.0.1', '10.0.0.0/8,192.168.0.0/16', '::1', 'fd00::/8', '10.0.0.1 , ::1'],
      [
        'true',
        'loopback',
        '*',
        '10.0.0.0/0',
        '::/0',
        '10.0.0.0/33',
        'fd00::/129',
        '10.0.0.0/8/8',
        '10.0.0.1,',
        '010.0.0.1',
        'fe80::1%eth0',
        '10.1',
        '10.0.0.1;10.0.0.2',
        '10.0.0.0/08',
      ],
    ],
  ])('%s knows what fits', (key, good, bad) => {
    for (const text of good) expect(problems({ env: { [key]: text } })).toEqual([]);
    for (const text of bad)
      expect(problems({ env: { [key]: text } })).toEqual([expect.stringMatching(`^${key}: must `)]);
  });
});

describe('secrets', () => {
  test('a token chosen in advance is kept apart and does not print', () => {
    const { config, secrets } = accepted({ env: { WARDER_BOOTSTRAP_TOKEN: token } });
    expect(secrets.bootstrapToken).toBeInstanceOf(SecretText);
    expect(inspect({ config, secrets }, { depth: null, showHidden: true })).not.toContain(token.slice(7));
    expect(JSON.stringify({ config, secrets })).not.toContain(token.slice(7));
  });

  test.each([
    ['too short', 'wdr_op_short'],
    ['another kind', token.replace('wdr_op_', 'wdr_at_')],
    ['a longer one', `${token}A`],
    ['a foreign character', `${token.slice(0, -1)}!`],
  ])('%s is refused as a bootstrap token', (_, text) => {
    expect(problems({ env: { WARDER_BOOTSTRAP_TOKEN: text } })).toEqual([
      expect.stringMatching(/^WARDER_BOOTSTRAP_TOKEN: must be an operator token/),
    ]);
  });

  const canary = `wdr_op_${'canary5'.repeat(10)}`;

  test.each([...configKeys, ...configKeys.map((key) => `${key}_FILE`), 'WARDER_NO_SUCH_KEY'])(
    'no problem with %s repeats what was given, wherever it was given',
    (key) => {
      for (const sources of [
        { env: { [key]: canary } },
        { env: { [key]: `${canary}\n` } },
        { env: { [key]: 'f' }, files: { f: `${canary} ` } },
        { yaml: `${key}: ${canary}: x\n` },
        { yaml: `${key}: "${canary}\\q"\n` },
        { yaml: `${key}: [${canary}]\n` },
        { yaml: `${key}: *${canary}\n` },
        { yaml: `${key}: !${canary} x\n` },
        { yaml: `${key}: @${canary}\n` },
        { yaml: `${key}: |${canary}\n` },
        { yaml: `{${key}:${canary}}\n` },
        { yaml: `{${canary}: ${key}}\n` },
        { yaml: `${key} ${canary}\nWARDER_LISTEN: x\n` },
        { yaml: `%${canary}\n---\n${key}: x\n` },
      ]) {
        expect(problems(sources).join('\n')).not.toContain('canary');
      }
    },
  );
});

test('all problems are reported together, each naming its place', () => {
  expect(
    problems({
      env: { WARDER_LISTEN: 'x', WARDER_LISTN: 'x', WARDER_KMS_FILE: 'missing' },
      yaml: 'WARDER_LOG_LEVEL: loud\nWARDER_COLOUR: red\nWARDER_BOOTSTRAP_TOKEN: nope\n',
    }),
  ).toEqual([
    'unknown key WARDER_LISTN; did you mean WARDER_LISTEN?',
    expect.stringMatching(/^warder.yaml line 2: unknown key WARDER_COLOUR; the keys are /),
    expect.stringMatching(/^WARDER_LISTEN: must be host:port/),
    'WARDER_KMS_FILE: the file it names cannot be read (ENOENT)',
    expect.stringMatching(/^WARDER_LOG_LEVEL \(warder.yaml line 1\): must be one of/),
    expect.stringMatching(/^WARDER_BOOTSTRAP_TOKEN \(warder.yaml line 3\): must be an operator token/),
  ]);
});
