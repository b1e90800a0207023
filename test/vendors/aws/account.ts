/** One AWS account: users, roles, sessions and keys, and who may do what to them. */
import { randomBytes, randomUUID } from 'node:crypto';
import { AwsError } from './answers.ts';
import { isAllowed, type Policy, parsePolicy } from './policy.ts';

export interface AccessKey {
  id: string;
  secret: string;
  status: 'Active' | 'Inactive';
  createdAt: number;
}

export interface User {
  name: string;
  arn: string;
  id: string;
  /** The one it began with. */
  accessKeyId: string;
  secretAccessKey: string;
  policies: Policy[];
  /** What was made by CreateAccessKey besides, by id. */
  moreKeys: Map<string, AccessKey>;
  createdAt: number;
}

export interface Role {
  name: string;
  arn: string;
  id: string;
  trust: Policy;
  maxSessionSeconds: number;
  /** Inline policies as written, oldest version first: reading may lag behind. */
  inline: Map<string, { at: number; text: string | undefined }[]>;
}

export interface Session {
  role: Role;
  name: string;
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken: string;
  issuedAt: number;
  expiresAt: number;
  policies: Policy[] | undefined;
  sourceIdentity: string | undefined;
  tags: Record<string, string>;
}

export interface Key {
  id: string;
  arn: string;
  material: Buffer;
  state: 'Enabled' | 'Disabled' | 'PendingDeletion';
}

/** Whoever signed a request. */
export interface Principal {
  arn: string;
  id: string;
  /** The ARNs a trust policy may name it by. */
  knownAs: string[];
  identity: Policy[];
  session: Policy[] | undefined;
  context: Record<string, string>;
  /** Whether it is a role's session: what it assumes is a chain, of one hour at most. */
  chained: boolean;
}

/** Unique ids and access key ids: capital letters and digits. */
export const makeId = (prefix: string): string =>
  prefix + Array.from(randomBytes(16), (byte) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'[byte % 32]).join('');
const makeSecret = (): string => randomBytes(30).toString('base64');

/** The quotas of https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html; white space does not count. */
const inlinePolicyCharacters = 10_240;
const accessKeysPerUser = 2;

export class Account {
  readonly id: string;
  readonly region: string;
  /** By access key id: a user may be here twice. */
  readonly users = new Map<string, User>();
  readonly roles = new Map<string, Role>();
  readonly managed = new Map<string, Policy>();
  readonly sessions = new Map<string, Session>();
  readonly keys = new Map<string, Key>();
  /** What was written to IAM is read so much later. */
  iamLagMs = 0;
  /** A new access key is known to the services so much later. */
  keyLagMs = 0;
  /** How far this clock is ahead of the machine's. */
  clockAheadMs = 0;

  constructor(id: string, region: string) {
    this.id = id;
    this.region = region;
  }

  addUser(name: string, policy: object): User {
    const user: User = {
      name,
      arn: `arn:aws:iam::${this.id}:user/${name}`,
      id: makeId('AIDA'),
      accessKeyId: makeId('AKIA'),
      secretAccessKey: makeSecret(),
      policies: [parsePolicy(JSON.stringify(policy))],
      moreKeys: new Map(),
      createdAt: Date.now(),
    };
    this.users.set(user.accessKeyId, user);
    return user;
  }

  userNamed(name: string): User | undefined {
    return [...this.users.values()].find((user) => user.name === name);
  }

  accessKeysOf(user: User): AccessKey[] {
    const { accessKeyId: id, secretAccessKey: secret, createdAt } = user;
    const first: AccessKey[] = this.users.get(id) === user ? [{ id, secret, status: 'Active', createdAt }] : [];
    return [...first, ...user.moreKeys.values()];
  }

  /** @throws AwsError `LimitExceeded` */
  addAccessKey(user: User): AccessKey {
    if (this.accessKeysOf(user).length >= accessKeysPerUser) {
      throw new AwsError('LimitExceeded', 409, `Cannot exceed quota for AccessKeysPerUser: ${accessKeysPerUser}`);
    }
    const key: AccessKey = { id: makeId('AKIA'), secret: makeSecret(), status: 'Active', createdAt: Date.now() };
    user.moreKeys.set(key.id, key);
    this.users.set(key.id, user);
    return key;
  }

  /** @throws AwsError `NoSuchEntity` */
  deleteAccessKey(user: User, id: string): void {
    if (this.users.get(id) !== user) {
      throw new AwsError('NoSuchEntity', 404, `The Access Key with id ${id} cannot be found.`);
    }
    user.moreKeys.delete(id);
    this.users.delete(id);
  }

  addRole(path: string, trust: object, policy: object, maxSessionSeconds = 3600): Role {
    const name = path.slice(path.lastIndexOf('/') + 1);
    const role: Role = {
      name,
      arn: `arn:aws:iam::${this.id}:role/${path}`,
      id: makeId('AROA'),
      trust: parsePolicy(JSON.stringify(trust)),
      maxSessionSeconds,
      inline: new Map(),
    };
    this.roles.set(name, role);
    this.putInline(role, 'permissions', JSON.stringify(policy), 0);
    return role;
  }

  addKey(): Key {
    const id = randomUUID();
    const key: Key = {
      id,
      arn: `arn:aws:kms:${this.region}:${this.id}:key/${id}`,
      material: randomBytes(32),
      state: 'Enabled',
    };
    this.keys.set(id, key);
    return key;
  }

  openSession(
    role: Role,
    given: Pick<Session, 'name' | 'policies' | 'sourceIdentity' | 'tags'>,
    seconds: number,
  ): Session {
    // Whole seconds, as aws:TokenIssueTime has them.
    const issuedAt = Math.floor((Date.now() + this.clockAheadMs) / 1000) * 1000;
    const session: Session = {
      ...given,
      role,
      accessKeyId: makeId('ASIA'),
      secretAccessKey: makeSecret(),
      sessionToken: randomBytes(120).toString('base64'),
      issuedAt,
      expiresAt: issuedAt + seconds * 1000,
    };
    this.sessions.set(session.accessKeyId, session);
    return session;
  }

  secretOf(accessKeyId: string): string | undefined {
    const user = this.users.get(accessKeyId);
    if (!user) return this.sessions.get(accessKeyId)?.secretAccessKey;
    const key = this.accessKeysOf(user).find(({ id }) => id === accessKeyId);
    const isKnown =
      key?.status === 'Active' && (key.id === user.accessKeyId || key.createdAt + this.keyLagMs <= Date.now());
    return isKnown ? key.secret : undefined;
  }

  /** @throws AwsError `ExpiredToken` or `InvalidClientTokenId` */
  principal(accessKeyId: string, sessionToken: string | undefined): Principal {
    const root = `arn:aws:iam::${this.id}:root`;
    const user = this.users.get(accessKeyId);
    if (user) {
      return {
        arn: user.arn,
        id: user.id,
        knownAs: [user.arn, root],
        identity: user.policies,
        session: undefined,
        context: { 'aws:userid': user.id, 'aws:PrincipalArn': user.arn },
        chained: false,
      };
    }
    const session = this.sessions.get(accessKeyId);
    if (!session || session.sessionToken !== sessionToken) {
      throw new AwsError('InvalidClientTokenId', 403, 'The security token included in the request is invalid');
    }
    if (session.expiresAt <= Date.now()) {
      throw new AwsError('ExpiredToken', 403, 'The security token included in the request is expired');
    }
    return this.sessionPrincipal(session);
  }

  sessionPrincipal(session: Session): Principal {
    const { role, name } = session;
    const id = `${role.id}:${name}`;
    return {
      arn: `arn:aws:sts::${this.id}:assumed-role/${role.name}/${name}`,
      id,
      knownAs: [role.arn, `arn:aws:iam::${this.id}:root`],
      identity: this.inlinePolicies(role),
      session: session.policies,
      context: {
        'aws:userid': id,
        'aws:PrincipalArn': role.arn,
        'aws:TokenIssueTime': new Date(session.issuedAt).toISOString(),
        ...(session.sourceIdentity === undefined ? {} : { 'aws:SourceIdentity': session.sourceIdentity }),
        ...Object.fromEntries(Object.entries(session.tags).map(([key, value]) => [`aws:PrincipalTag/${key}`, value])),
      },
      chained: true,
    };
  }

  may(principal: Principal, action: string, resource: string, context: Record<string, string> = {}): boolean {
    return isAllowed(principal.identity, principal.session, {
      action,
      resource,
      context: { ...principal.context, ...context, 'aws:CurrentTime': new Date().toISOString() },
    });
  }

  /** @throws AwsError `AccessDenied` */
  authorise(principal: Principal, action: string, resource: string, context: Record<string, string> = {}): void {
    if (this.may(principal, action, resource, context)) return;
    const what = `User: ${principal.arn} is not authorized to perform: ${action} on resource: ${resource}`;
    throw new AwsError('AccessDenied', 403, what);
  }

  inlineText(role: Role, name: string): string | undefined {
    const versions = role.inline.get(name) ?? [];
    return versions.findLast(({ at }) => at <= Date.now() - this.iamLagMs)?.text;
  }

  inlinePolicies(role: Role): Policy[] {
    // Whoever holds a role that was deleted has nothing.
    if (this.roles.get(role.name) !== role) return [];
    return [...role.inline.keys()].flatMap((name) => {
      const text = this.inlineText(role, name);
      return text === undefined ? [] : [parsePolicy(text)];
    });
  }

  /** @throws AwsError `LimitExceeded` */
  putInline(role: Role, name: string, text: string | undefined, at = Date.now()): void {
    const latest = [...role.inline].map(([other, versions]) => (other === name ? text : versions.at(-1)?.text) ?? '');
    const all = role.inline.has(name) ? latest : [...latest, text ?? ''];
    if (all.join('').replace(/\s/g, '').length > inlinePolicyCharacters) {
      throw new AwsError(
        'LimitExceeded',
        409,
        `Maximum policy size of ${inlinePolicyCharacters} bytes exceeded for role ${role.name}`,
      );
    }
    role.inline.set(name, [...(role.inline.get(name) ?? []), { at, text }]);
  }
}
