/** How a key service is written: `local:<path>`, `aws-kms:<key id or arn>`, `vault-transit:<mount>/<key>`. */

export type KeyServiceName =
  | { readonly kind: 'local'; readonly path: string }
  | { readonly kind: 'aws-kms'; readonly key: string }
  | { readonly kind: 'vault-transit'; readonly mount: string; readonly key: string };

export type ReadName = { ok: true; value: KeyServiceName } | { ok: false; rule: string };

/**
 * A key id, an alias or the ARN of either (the KeyId of https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html):
 * `1234abcd-12ab-34cd-56ef-1234567890ab`, `mrk-…`, `alias/warder`, `arn:aws:kms:eu-west-1:111122223333:key/…`.
 */
const keyId = '(?:mrk-)?[0-9a-f-]{32,36}';
const alias = 'alias/[\\w/-]{1,240}';
const awsKey = new RegExp(`^(?:${keyId}|${alias}|arn:aws[\\w-]*:kms:[a-z0-9-]+:\\d{12}:(?:key/${keyId}|${alias}))$`);
/** A mount may be nested; dot segments would leave it. */
const transit = /^((?:[\w-]+\/)*[\w-]+)\/([\w.-]{1,128})$/;

const rule = 'must be local:<path>, aws-kms:<key id, alias or ARN> or vault-transit:<mount>/<key>';

/** @returns what the text names, or the rule it breaks, without the text */
export const readKeyServiceName = (text: string): ReadName => {
  const [, kind, rest = ''] = /^(local|aws-kms|vault-transit):(.*)$/s.exec(text) ?? [];
  if (kind === 'local') {
    if (rest === '') return { ok: false, rule: 'needs a path after local:' };
    // A habit from URLs that would name another path than was meant.
    if (rest.startsWith('//')) return { ok: false, rule: 'must name a path with at most one slash at its start' };
    return { ok: true, value: { kind, path: rest } };
  }
  if (kind === 'aws-kms') {
    return awsKey.test(rest)
      ? { ok: true, value: { kind, key: rest } }
      : { ok: false, rule: 'must be aws-kms:<key id, alias/name, or the ARN of either>' };
  }
  if (kind === 'vault-transit') {
    const [, mount, key] = transit.exec(rest) ?? [];
    return mount === undefined || key === undefined || /^\.+$/.test(key)
      ? { ok: false, rule: 'must be vault-transit:<mount>/<key>, e.g. vault-transit:transit/warder' }
      : { ok: true, value: { kind, mount, key } };
  }
  return { ok: false, rule };
};
