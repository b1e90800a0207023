/**
 * Where a secret is read instead of being kept: in one line, as people type it.
 *
 *     vault:corp-vault/secret/data/stripe#api_key                      the field `value` of the secret
 *     vault:corp-vault/secret/data/db#username=user,password=pass      several
 *     vault:corp-vault/secret/data/stripe?version=3&max_age=30#api_key
 */
import { usage } from './failure.ts';

export interface SecretReference {
  connection: string;
  path: string;
  fields: Record<string, string>;
  version?: number;
  max_age_seconds?: number;
}

export const secretFromRule = 'vault:CONNECTION/PATH#FIELD';

const form = /^vault:([a-z0-9][a-z0-9._-]*)\/([^?#]+)(?:\?([^#]*))?#(.+)$/;
const parameters = { version: 'version', max_age: 'max_age_seconds' } as const;

/**
 * @param where names the option or field, for messages: they never repeat what was given, which may be a secret
 * @throws Failure 2
 */
export const readSecretReference = (text: string, where: string): SecretReference => {
  const [, connection, path, query = '', list] = form.exec(text) ?? [];
  if (connection === undefined || path === undefined || list === undefined) {
    throw usage(`${where} takes ${secretFromRule}, or #NAME=FIELD,NAME=FIELD where the secret has several fields`);
  }
  const fields: Record<string, string> = {};
  for (const one of list.split(',')) {
    const [, name = 'value', field = ''] = /^(?:([a-z]\w{0,99})=)?([^=]+)$/.exec(one) ?? [];
    if (field === '') throw usage(`${where}: after # come fields: FIELD, or NAME=FIELD,NAME=FIELD`);
    if (Object.hasOwn(fields, name)) throw usage(`${where}: the field ${name} is given twice`);
    fields[name] = field;
  }
  const reference: SecretReference = { connection, path, fields };
  for (const [name, value] of new URLSearchParams(query)) {
    const field = Object.hasOwn(parameters, name) ? parameters[name as keyof typeof parameters] : undefined;
    if (field === undefined || !/^\d{1,9}$/.test(value) || reference[field] !== undefined) {
      throw usage(`${where}: after ? come version=NUMBER and max_age=SECONDS, each once`);
    }
    reference[field] = Number(value);
  }
  return reference;
};
