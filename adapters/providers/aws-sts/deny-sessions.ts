/**
 * Denies sessions of a role before their end, by an inline policy on the role that Warder reads, changes and writes back:
 * docs/adr/0015-aws-sessions.md. Needs iam:GetRolePolicy and iam:PutRolePolicy on that role and no other.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { IAMClient } from '@aws-sdk/client-iam';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import type { Network } from '../../network.ts';
import { type AwsKeys, loadIam, loadSts, openIam, openSts } from './clients.ts';
import {
  type Denials,
  denies,
  fitted,
  noDenials,
  readDenials,
  union,
  withoutWhatIsOver,
  writeDenials,
} from './denials.ts';
import { errorOf } from './failure.ts';
import { limits } from './session-policy.ts';
import { type AwsSettings, readRoleArn } from './settings.ts';

/** All inline policies of a role together have 10 240; the role's own are among them, and the room shrinks on demand. */
const mostCharacters = 8_000;
const leastCharacters = 500;
/** IAM shows what was written a moment later; and another replica may have written over it. */
const rounds = 4;
const pauseMs = 250;

export interface Denial {
  settings: AwsSettings;
  /** The role the session is of: the grant's, whatever the settings say by now. */
  roleArn: string;
  policyName: string;
  pattern: string;
  keys: AwsKeys | undefined;
  now: number;
}

/** The keys to write the denial with. @throws ProviderFailure when they cannot be of the role's account */
const writerKeys = async (denial: Denial, network: Network, abortSignal: AbortSignal): Promise<AwsKeys | undefined> => {
  const { settings, keys } = denial;
  const account = readRoleArn(denial.roleArn)?.account;
  const sts = await openSts(settings, network, keys);
  const sdk = await loadSts();
  if (settings.revocation_role_arn === undefined) {
    // IAM takes a role's name, not its ARN: in another account it would change, or miss, another role.
    const { Account } = await sts.send(new sdk.GetCallerIdentityCommand({}), { abortSignal });
    if (Account === account) return keys;
    throw new ProviderFailure('refused', 'the access key is not of the role’s account: it needs a revocation_role_arn');
  }
  if (readRoleArn(settings.revocation_role_arn)?.account !== account) {
    throw new ProviderFailure('refused', 'revocation_role_arn is not of the account of the session’s role');
  }
  const command = new sdk.AssumeRoleCommand({
    RoleArn: settings.revocation_role_arn,
    RoleSessionName: `${settings.session_name_prefix}.revocation`,
    DurationSeconds: limits.leastSeconds,
    ...(settings.external_id === undefined ? {} : { ExternalId: settings.external_id }),
  });
  const { Credentials } = await sts.send(command, { abortSignal });
  const { AccessKeyId, SecretAccessKey, SessionToken } = Credentials ?? {};
  if (AccessKeyId === undefined || SecretAccessKey === undefined || SessionToken === undefined) {
    throw new ProviderFailure('unavailable', 'AWS answered nonsense');
  }
  return { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: SessionToken };
};

/** The role's policy of this name, as denials. */
const readPolicy = async (
  iam: IAMClient,
  { roleArn, policyName }: Denial,
  abortSignal: AbortSignal,
): Promise<Denials> => {
  const sdk = await loadIam();
  const RoleName = readRoleArn(roleArn)?.name ?? '';
  try {
    const answer = await iam.send(new sdk.GetRolePolicyCommand({ RoleName, PolicyName: policyName }), { abortSignal });
    if (answer.PolicyDocument === undefined) throw new ProviderFailure('unavailable', 'AWS answered nonsense');
    return readDenials(decodeURIComponent(answer.PolicyDocument));
  } catch (error) {
    if (errorOf(error).name === 'NoSuchEntityException') return noDenials;
    throw error;
  }
};

/** @returns `gone` when there is no such role: whoever holds a session of it can do nothing */
const writePolicy = async (
  iam: IAMClient,
  { roleArn, policyName, now }: Denial,
  wanted: Denials,
  abortSignal: AbortSignal,
): Promise<Denials | 'gone'> => {
  const sdk = await loadIam();
  const RoleName = readRoleArn(roleArn)?.name ?? '';
  for (let room = mostCharacters; room >= leastCharacters; room /= 4) {
    const denials = fitted(wanted, now, room);
    if (!denials) break;
    const PolicyDocument = writeDenials(denials);
    try {
      await iam.send(new sdk.PutRolePolicyCommand({ RoleName, PolicyName: policyName, PolicyDocument }), {
        abortSignal,
      });
      return denials;
    } catch (error) {
      const { name } = errorOf(error);
      if (name === 'NoSuchEntityException') return 'gone';
      if (name !== 'LimitExceededException') throw error;
    }
  }
  throw new ProviderFailure('unavailable', 'the role has no room for so many denied sessions; older ones make room');
};

/** @returns denies the sessions of these, which are of one role and one policy, newest settings and keys last */
export const openDenySessions = (network: Network) => {
  /** What was written here: IAM may show a policy as it was before, and writing that back would undo a revocation. */
  const known = new Map<string, Denials>();

  return async (key: string, batch: readonly Denial[], signal: AbortSignal): Promise<void> => {
    const newest = batch.at(-1);
    if (!newest) return;
    const asked: Denials = { patterns: new Set(batch.map(({ pattern }) => pattern)), olderThan: 0 };
    const iam = await openIam(newest.settings, network, await writerKeys(newest, network, signal));
    for (let round = 1; round <= rounds; round += 1) {
      const found = await readPolicy(iam, newest, signal);
      const mine = withoutWhatIsOver(known.get(key) ?? noDenials, newest.now);
      const isThere = [...asked.patterns, ...mine.patterns].every((pattern) => denies(found, pattern));
      if (isThere && found.olderThan >= mine.olderThan) {
        known.set(key, mine);
        return;
      }
      const written = await writePolicy(iam, newest, union(found, mine, asked), signal);
      if (written === 'gone') return;
      known.set(key, written);
      if (round > 1) await pause(pauseMs * round, undefined, { signal });
    }
    throw new ProviderFailure('unavailable', 'AWS does not show the denial that was written');
  };
};
