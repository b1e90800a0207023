/** Variables of the environment for the length of a test file: the AWS SDK takes its identity from there. */
export const withEnv = (): { set(values: Record<string, string | undefined>): void; restore(): void } => {
  const before = new Map<string, string | undefined>();
  const put = (name: string, value: string | undefined): void => {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  };
  return {
    set(values) {
      for (const [name, value] of Object.entries(values)) {
        if (!before.has(name)) before.set(name, process.env[name]);
        put(name, value);
      }
    },
    restore() {
      for (const [name, value] of before) put(name, value);
    },
  };
};
