/** STS and IAM as far as Warder calls them, with the checks and the errors of the real ones. */
import type { Account, Principal, Role, User } from './account.ts';
import { AwsError, type XmlValue } from './answers.ts';
import { MalformedPolicy, type Policy, parsePolicy, trusts } from './policy.ts';

export type Operation = (account: Account, caller: Principal, form: URLSearchParams) => XmlValue;

const invalid = (message: string): AwsError => new AwsError('ValidationError', 400, message);

const required = (form: URLSearchParams, name: string, rule: RegExp): string => {
  const value = form.get(name) ?? '';
  if (!rule.test(value)) throw invalid(`1 validation error detected: Value at '${name}' failed to satisfy constraint`);
  return value;
};

const members = (form: URLSearchParams, name: string): URLSearchParams[] => {
  const found: URLSearchParams[] = [];
  for (let i = 1; ; i += 1) {
    const prefix = `${name}.member.${i}.`;
    const fields = [...form].filter(([field]) => field.startsWith(prefix));
    if (fields.length === 0) return found;
    found.push(
      new URLSearchParams(fields.map(([field, value]): [string, string] => [field.slice(prefix.length), value])),
    );
  }
};

const policyFrom = (text: string): Policy => {
  try {
    return parsePolicy(text);
  } catch (error) {
    if (error instanceof MalformedPolicy) throw new AwsError('MalformedPolicyDocument', 400, error.message);
    throw error;
  }
};

const sessionPolicies = (account: Account, form: URLSearchParams): Policy[] | undefined => {
  const text = form.get('Policy');
  const arns = members(form, 'PolicyArns').map((one) => one.get('arn') ?? '');
  if (text === null && arns.length === 0) return undefined;
  if (arns.length > 10) throw invalid('You may pass at most 10 managed policy ARNs');
  const plain = (text ?? '').length + arns.join('').length;
  if (plain > 2048) {
    throw new AwsError(
      'PackedPolicyTooLarge',
      400,
      `Packed policy consumes ${Math.ceil(plain / 20.48)}% of allotted space`,
    );
  }
  const managed = arns.map((arn) => {
    const policy = account.managed.get(arn);
    if (!policy) throw new AwsError('NoSuchEntity', 404, `Policy ${arn} does not exist`);
    return policy;
  });
  return [...(text === null ? [] : [policyFrom(text)]), ...managed];
};

const assumeRole: Operation = (account, caller, form) => {
  const arn = required(form, 'RoleArn', /^arn:[\w-]+:iam::\d{12}:role\/[\w+=,.@/-]{1,576}$/);
  const name = required(form, 'RoleSessionName', /^[\w+=,.@-]{2,64}$/);
  const seconds = Number(form.get('DurationSeconds') ?? 3600);
  if (!Number.isInteger(seconds) || seconds < 900 || seconds > 43_200) {
    throw invalid(`Value '${seconds}' at 'durationSeconds' failed to satisfy constraint`);
  }
  const externalId = form.get('ExternalId');
  const sourceIdentity = form.get('SourceIdentity') ?? undefined;
  if (sourceIdentity !== undefined) required(form, 'SourceIdentity', /^[\w+=,.@-]{2,64}$/);
  const tags = Object.fromEntries(members(form, 'Tags').map((tag) => [tag.get('Key') ?? '', tag.get('Value') ?? '']));
  for (const [key, value] of Object.entries(tags)) {
    if (!/^[\p{L}\p{Z}\p{N}_.:/=+\-@]{1,128}$/u.test(key) || !/^[\p{L}\p{Z}\p{N}_.:/=+\-@]{0,256}$/u.test(value)) {
      throw invalid(`Value at 'tags' failed to satisfy constraint`);
    }
  }
  const policies = sessionPolicies(account, form);

  const role = [...account.roles.values()].find((one) => one.arn === arn);
  const denied = (action: string): AwsError =>
    new AwsError(
      'AccessDenied',
      403,
      `User: ${caller.arn} is not authorized to perform: ${action} on resource: ${arn}`,
    );
  const context = {
    'sts:RoleSessionName': name,
    ...(externalId === null ? {} : { 'sts:ExternalId': externalId }),
    ...(sourceIdentity === undefined ? {} : { 'sts:SourceIdentity': sourceIdentity }),
    ...Object.fromEntries(Object.entries(tags).map(([key, value]) => [`aws:RequestTag/${key}`, value])),
  };
  const actions = [
    'sts:AssumeRole',
    ...(sourceIdentity === undefined ? [] : ['sts:SetSourceIdentity']),
    ...(Object.keys(tags).length === 0 ? [] : ['sts:TagSession']),
  ];
  for (const action of actions) {
    const trusted = role && trusts(role.trust, caller.knownAs, { action, resource: '*', context });
    // Whether the role is not there or not for this caller is not told.
    if (!role || !trusted || !account.may(caller, action, arn, context)) throw denied(action);
  }
  if (!role) throw denied('sts:AssumeRole');
  if (seconds > role.maxSessionSeconds) {
    throw invalid('The requested DurationSeconds exceeds the MaxSessionDuration set for this role.');
  }
  if (caller.chained && seconds > 3600) {
    throw invalid('The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.');
  }
  const session = account.openSession(role, { name, policies, sourceIdentity, tags }, seconds);
  const { arn: sessionArn, id } = account.sessionPrincipal(session);
  return {
    AssumedRoleUser: { AssumedRoleId: id, Arn: sessionArn },
    Credentials: {
      AccessKeyId: session.accessKeyId,
      SecretAccessKey: session.secretAccessKey,
      SessionToken: session.sessionToken,
      Expiration: new Date(session.expiresAt).toISOString().replace('.000Z', 'Z'),
    },
    PackedPolicySize: 5,
    ...(sourceIdentity === undefined ? {} : { SourceIdentity: sourceIdentity }),
  };
};

const roleNamed = (account: Account, form: URLSearchParams): Role => {
  const name = required(form, 'RoleName', /^[\w+=,.@-]{1,64}$/);
  const role = account.roles.get(name);
  if (!role) throw new AwsError('NoSuchEntity', 404, `The role with name ${name} cannot be found.`);
  return role;
};

const policyName = (form: URLSearchParams): string => required(form, 'PolicyName', /^[\w+=,.@-]{1,128}$/);

const mayOn = (account: Account, caller: Principal, action: string, form: URLSearchParams): void => {
  const name = form.get('RoleName') ?? '';
  account.authorise(caller, action, account.roles.get(name)?.arn ?? `arn:aws:iam::${account.id}:role/${name}`);
};

export const stsOperations: Record<string, Operation> = {
  AssumeRole: assumeRole,
  // Needs no right, and cannot be denied.
  GetCallerIdentity: (account, caller) => ({ Arn: caller.arn, UserId: caller.id, Account: account.id }),
};

/** Without a name it is whoever asks, as IAM has it. */
const userNamed = (account: Account, caller: Principal, form: URLSearchParams, action: string): User => {
  const given = form.get('UserName');
  const name =
    given === null
      ? caller.arn.slice(caller.arn.lastIndexOf('/') + 1)
      : required(form, 'UserName', /^[\w+=,.@-]{1,64}$/);
  const user = account.userNamed(name);
  account.authorise(caller, action, user?.arn ?? `arn:aws:iam::${account.id}:user/${name}`);
  if (!user) throw new AwsError('NoSuchEntity', 404, `The user with name ${name} cannot be found.`);
  return user;
};

const wholeSeconds = (ms: number): string => new Date(Math.floor(ms / 1000) * 1000).toISOString().replace('.000Z', 'Z');

export const iamOperations: Record<string, Operation> = {
  ListAccessKeys: (account, caller, form) => {
    const user = userNamed(account, caller, form, 'iam:ListAccessKeys');
    const keys = account.accessKeysOf(user).map(({ id, status, createdAt }) => ({
      UserName: user.name,
      AccessKeyId: id,
      Status: status,
      CreateDate: wholeSeconds(createdAt),
    }));
    return { AccessKeyMetadata: keys, IsTruncated: 'false' };
  },
  CreateAccessKey: (account, caller, form) => {
    const user = userNamed(account, caller, form, 'iam:CreateAccessKey');
    const { id, secret, status, createdAt } = account.addAccessKey(user);
    return {
      AccessKey: {
        UserName: user.name,
        AccessKeyId: id,
        Status: status,
        SecretAccessKey: secret,
        CreateDate: wholeSeconds(createdAt),
      },
    };
  },
  DeleteAccessKey: (account, caller, form) => {
    const user = userNamed(account, caller, form, 'iam:DeleteAccessKey');
    account.deleteAccessKey(user, required(form, 'AccessKeyId', /^\w{16,128}$/));
    return {};
  },
  GetRole: (account, caller, form) => {
    mayOn(account, caller, 'iam:GetRole', form);
    const role = roleNamed(account, form);
    return {
      Role: { RoleName: role.name, RoleId: role.id, Arn: role.arn, MaxSessionDuration: role.maxSessionSeconds },
    };
  },
  GetRolePolicy: (account, caller, form) => {
    mayOn(account, caller, 'iam:GetRolePolicy', form);
    const role = roleNamed(account, form);
    const name = policyName(form);
    const text = account.inlineText(role, name);
    if (text === undefined)
      throw new AwsError('NoSuchEntity', 404, `The role policy with name ${name} cannot be found.`);
    return { RoleName: role.name, PolicyName: name, PolicyDocument: encodeURIComponent(text) };
  },
  PutRolePolicy: (account, caller, form) => {
    mayOn(account, caller, 'iam:PutRolePolicy', form);
    const role = roleNamed(account, form);
    const text = form.get('PolicyDocument') ?? '';
    policyFrom(text);
    account.putInline(role, policyName(form), text);
    return {};
  },
  DeleteRolePolicy: (account, caller, form) => {
    mayOn(account, caller, 'iam:DeleteRolePolicy', form);
    const role = roleNamed(account, form);
    const name = policyName(form);
    if (account.inlineText(role, name) === undefined) {
      throw new AwsError('NoSuchEntity', 404, `The role policy with name ${name} cannot be found.`);
    }
    account.putInline(role, name, undefined);
    return {};
  },
};
