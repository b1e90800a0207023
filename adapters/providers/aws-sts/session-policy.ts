/**
 * The session policy: what of the role's rights a grant's session keeps, and until when.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies.html#policies_session
 */

/** https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html: `Policy`, `PolicyArns`, `DurationSeconds`. */
export const limits = {
  /** Of the inline policy and the ARNs together. AWS packs them besides, and may refuse what is shorter. */
  policyCharacters: 2048,
  policyArns: 10,
  leastSeconds: 900,
  mostSeconds: 43_200,
} as const;

/** What a scope allows; what may be written in it is judged in settings.ts. */
interface PolicyScope {
  statements: { actions: string[]; resources: string[]; conditions?: unknown }[];
  policy_arns: string[];
}

export interface SessionPolicy {
  /** JSON, without white space: it counts. */
  document: string;
  policyArns: string[];
}

/** `2026-11-22T23:50:00Z`: whole seconds, rounded down, so that a session never outlives its grant. */
export const awsTime = (ms: number): string => `${new Date(Math.floor(ms / 1000) * 1000).toISOString().slice(0, 19)}Z`;

/**
 * The union of the scopes, and a denial of everything from `until` on. A session of AWS lives 15 minutes at least; with
 * the denial it can do nothing once its grant is over. A denial rather than a condition in each statement, because it
 * also binds managed policies, and what a resource's own policy allows the session.
 * @param until milliseconds since the epoch
 */
export const sessionPolicy = (scopes: readonly PolicyScope[], until: number): SessionPolicy => {
  const allowed = scopes
    .flatMap((scope) => scope.statements)
    .map(({ actions, resources, conditions }) =>
      JSON.stringify({
        Effect: 'Allow',
        Action: actions,
        Resource: resources,
        ...(conditions === undefined ? {} : { Condition: conditions }),
      }),
    );
  const over = JSON.stringify({
    Effect: 'Deny',
    Action: '*',
    Resource: '*',
    Condition: { DateGreaterThanEquals: { 'aws:CurrentTime': awsTime(until) } },
  });
  return {
    document: `{"Version":"2012-10-17","Statement":[${[...new Set(allowed), over].join(',')}]}`,
    policyArns: [...new Set(scopes.flatMap((scope) => scope.policy_arns))],
  };
};

/** In characters, as AWS counts them against {@link limits}. */
export const sizeOf = ({ document, policyArns }: SessionPolicy): number => document.length + policyArns.join('').length;

/** @returns why AWS would not take it, or undefined */
export const policyProblem = (policy: SessionPolicy): string | undefined => {
  const size = sizeOf(policy);
  if (size > limits.policyCharacters) {
    return `these scopes together make a session policy of ${size} characters; AWS takes ${limits.policyCharacters}`;
  }
  if (policy.policyArns.length > limits.policyArns) {
    return `these scopes together name ${policy.policyArns.length} managed policies; AWS takes ${limits.policyArns}`;
  }
  return undefined;
};
