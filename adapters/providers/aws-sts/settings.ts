/** What an operator writes to register a role: read strictly, with AWS's own limits checked where they can be. */
import { z } from 'zod';
import { isScopeName, scopeNameRule } from '../../../src/domain/names.ts';
import { judgeHost } from '../../../src/domain/network-address.ts';
import { limits, sessionPolicy, sizeOf } from './session-policy.ts';

/** Where the services of a partition are, as the SDK's own rules have it; the others name their endpoints. */
const partitions: Readonly<Record<string, { regions: RegExp; suffix: string; iam: string; iamRegion: string }>> = {
  aws: {
    // Those of no other partition: AWS opens new ones.
    regions: /^(?!cn-|us-gov-|us-iso|eu-iso|eusc-)/,
    suffix: 'amazonaws.com',
    iam: 'https://iam.amazonaws.com',
    iamRegion: 'us-east-1',
  },
  'aws-cn': {
    regions: /^cn-/,
    suffix: 'amazonaws.com.cn',
    iam: 'https://iam.cn-north-1.amazonaws.com.cn',
    iamRegion: 'cn-north-1',
  },
  'aws-us-gov': {
    regions: /^us-gov-/,
    suffix: 'amazonaws.com',
    iam: 'https://iam.us-gov.amazonaws.com',
    iamRegion: 'us-gov-west-1',
  },
  'aws-eusc': {
    regions: /^eusc-/,
    suffix: 'amazonaws.eu',
    iam: 'https://iam.eusc-de-east-1.amazonaws.eu',
    iamRegion: 'eusc-de-east-1',
  },
};

const roleForm = /^arn:(aws[a-z-]{0,20}):iam::(\d{12}):role\/((?:[\w+=,.@-]{1,64}\/){0,10}[\w+=,.@-]{1,64})$/;

export interface RoleArn {
  partition: string;
  account: string;
  /** The last part of its path: what IAM's calls take. */
  name: string;
}

/** @returns undefined for what is no role's ARN */
export const readRoleArn = (text: string): RoleArn | undefined => {
  const [, partition, account, path] = roleForm.exec(text) ?? [];
  if (partition === undefined || account === undefined || path === undefined) return undefined;
  return { partition, account, name: path.slice(path.lastIndexOf('/') + 1) };
};

const roleArn = z
  .string()
  .refine((text) => readRoleArn(text) !== undefined, 'must be arn:aws:iam::<account>:role/<name>');
/** An empty block would leave a statement that was meant to have a condition without one. */
const hasKeys = (block: object): boolean => Object.keys(block).length > 0;
const oneOrMore = (one: z.ZodType<string>) => z.array(one).min(1).max(100);

const statement = z.strictObject({
  actions: oneOrMore(z.string().regex(/^(?:\*|[a-z0-9-]{1,40}:[A-Za-z0-9*?]{1,100})$/, 'must be service:Action')),
  resources: oneOrMore(
    z
      .string()
      .max(1000)
      .regex(/^(?:\*|arn:[\x21-\x7e]+)$/, 'must be an ARN, which may contain wildcards, or *'),
  ),
  conditions: z
    .record(
      z.string().regex(/^(?:For(?:Any|All)Values:)?[A-Z][A-Za-z]{2,40}$/, 'must be a condition operator'),
      z
        .record(
          z
            .string()
            .max(200)
            .regex(/^[A-Za-z0-9-]{1,40}:[\x21-\x7e]+$/, 'must be a condition key, e.g. aws:SourceIp'),
          z.union([z.string().max(1000), z.array(z.string().max(1000)).min(1).max(100)]),
        )
        .refine(hasKeys, 'needs a condition key'),
    )
    .refine(hasKeys, 'needs a condition')
    .optional(),
});

const scope = z
  .strictObject({
    statements: z.array(statement).max(50).default([]),
    policy_arns: z
      .array(
        z
          .string()
          .regex(/^arn:aws[a-z-]{0,20}:iam::(?:aws|\d{12}):policy\/[\w+=,.@/-]{1,512}$/, 'must be a policy’s ARN'),
      )
      .max(limits.policyArns, `AWS takes at most ${limits.policyArns} of them for a session`)
      .default([]),
  })
  .refine((one) => one.statements.length + one.policy_arns.length > 0, 'needs statements or policy_arns')
  .superRefine((one, context) => {
    const size = sizeOf(sessionPolicy([one], 0));
    if (size <= limits.policyCharacters) return;
    context.addIssue({
      code: 'custom',
      message: `makes a session policy of ${size} characters; AWS takes ${limits.policyCharacters}`,
    });
  });

export type Scope = z.infer<typeof scope>;

const endpointProblem = (text: string, allowPrivate: boolean): string | undefined => {
  if (!URL.canParse(text)) return 'not a URL';
  const url = new URL(text);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'http or https only';
  if (url.username !== '' || url.password !== '') return 'no credentials in a URL';
  if (url.search !== '' || url.hash !== '' || url.pathname !== '/') return 'no path, no query and no fragment';
  const judged = judgeHost(url.hostname);
  if (judged.kind === 'invalid') return 'not a host';
  if (judged.kind === 'private' && judged.range === 'metadata') {
    return 'this address hands out credentials of the machine; it is never an upstream';
  }
  if (allowPrivate) return undefined;
  if (judged.kind === 'private') {
    return 'this address is not on the public internet; set allow_private_network if that is meant';
  }
  return url.protocol === 'http:' ? 'https only' : undefined;
};

const sessionName = /^[\w+=,@-]{1,12}$/;

export const awsSettings = z
  .strictObject({
    role_arn: roleArn,
    region: z.string().regex(/^[a-z]{2,8}(?:-[a-z]{1,12}){1,3}-\d{1,2}$/, 'must be a region, e.g. eu-west-1'),
    external_id: z
      .string()
      .regex(/^[\w+=,.@:/-]{2,1224}$/, 'must be 2 to 1224 letters, digits and _+=,.@:/-')
      .optional(),
    /** Whose access key signs: the connection's secret, or this machine's own identity. */
    credentials: z.enum(['secret', 'ambient']).default('secret'),
    /** Begins the session's name, which CloudTrail shows. */
    session_name_prefix: z.string().regex(sessionName, 'must be 1 to 12 letters, digits and _+=,@-').default('warder'),
    source_identity: z.enum(['agent', 'subject']).optional(),
    session_tags: z.boolean().default(false),
    scopes: z
      .record(z.string().refine(isScopeName, scopeNameRule), scope)
      .refine((scopes) => Object.keys(scopes).length > 0, 'at least one scope'),
    revocation: z.enum(['session-deny', 'none']).default('session-deny'),
    /** A role of the same account that may write the denial, where the access key itself may not. */
    revocation_role_arn: roleArn.optional(),
    endpoints: z.strictObject({ sts: z.string().max(500).optional(), iam: z.string().max(500).optional() }).default({}),
    allow_private_network: z.boolean().default(false),
  })
  .superRefine((value, context) => {
    const problem = (path: string[], message: string): void => context.addIssue({ code: 'custom', path, message });
    const { endpoints } = value;
    for (const name of ['sts', 'iam'] as const) {
      const found =
        endpoints[name] === undefined ? undefined : endpointProblem(endpoints[name], value.allow_private_network);
      if (found) problem(['endpoints', name], found);
      // Whoever registers a connection would have this machine's identity sign for a host of his own.
      if (endpoints[name] !== undefined && value.credentials === 'ambient') {
        problem(['endpoints', name], 'the credentials of this machine are used with AWS’s own addresses only');
      }
    }
    const role = readRoleArn(value.role_arn);
    if (!role) return;
    const known = Object.hasOwn(partitions, role.partition) ? partitions[role.partition] : undefined;
    if (known && !known.regions.test(value.region)) {
      problem(['region'], `not a region of the role’s partition, ${role.partition}`);
    }
    if (!known && (endpoints.sts === undefined || endpoints.iam === undefined)) {
      problem(['endpoints'], `Warder does not know where ${role.partition} is: name sts and iam`);
    }
    const revoker = value.revocation_role_arn === undefined ? undefined : readRoleArn(value.revocation_role_arn);
    if (revoker && (revoker.account !== role.account || revoker.partition !== role.partition)) {
      problem(['revocation_role_arn'], 'must be of the account of role_arn: a role is changed from inside its account');
    }
    if (revoker && value.revocation === 'none') {
      problem(['revocation_role_arn'], 'is for revocation: session-deny');
    }
  });

export type AwsSettings = z.infer<typeof awsSettings>;

/** Where the connection's access key is sent, and for which region IAM's requests are signed. */
export const addressesOf = (settings: AwsSettings): { sts: string; iam: string; iamRegion: string } => {
  const { partition = '' } = readRoleArn(settings.role_arn) ?? {};
  const known = Object.hasOwn(partitions, partition) ? partitions[partition] : undefined;
  return {
    sts: settings.endpoints.sts ?? `https://sts.${settings.region}.${known?.suffix ?? ''}`,
    iam: settings.endpoints.iam ?? known?.iam ?? '',
    iamRegion: known?.iamRegion ?? settings.region,
  };
};
