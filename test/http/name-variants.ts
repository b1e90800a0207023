/** Other spellings of one name, as attackers and keyboards make them. None of them is the name itself. */

const zeroWidth = ['\u200b', '\u200c', '\u200d', '\u2060', '\ufeff', '\u00ad', '\u034f', '\u180e', '\ufe0f', '\u3164'];
const spaces = [' ', '\t', '\n', '\r', '\u000b', '\u00a0', '\u2003', '\u2028', '\u3000', '\u0085'];
const controls = ['\u0000', '\u0007', '\u001b', '\u007f', '\u009b', '\u202e', '\u2066'];
const punctuation = [...'!"#$%&()*+,/:;<=>?@[]^`{|}~\\\''];
const marks = ['\u0301', '\u0327', '\u20dd', '\u0338'];
const homoglyphs: Record<string, string[]> = {
  a: ['а', 'ɑ', 'α', 'ａ', 'ª', '𝐚', 'á'],
  b: ['Ь', 'ｂ', '𝐛'],
  c: ['с', 'ϲ', 'ｃ', 'ⅽ'],
  e: ['е', 'ｅ', 'ℯ', 'é'],
  g: ['ɡ', 'ｇ', 'ℊ'],
  i: ['і', 'ı', 'ｉ', 'ⅰ', 'ⁱ', 'İ'],
  k: ['к', 'ｋ', '\u212a'],
  l: ['ⅼ', 'ｌ', 'ӏ', '1', 'I'],
  n: ['ո', 'ｎ', 'ⁿ'],
  o: ['о', 'ο', 'ｏ', 'º', '0'],
  p: ['р', 'ｐ', '𝐩'],
  r: ['ｒ', 'г', 'ᵣ'],
  s: ['ѕ', 'ｓ', 'ſ', 'ˢ'],
  t: ['ｔ', 'т', 'ᵗ'],
  '-': ['‐', '‑', '–', '−', '﹣', '－', '_'],
};

const insertedAt = (name: string, at: number, text: string): string => name.slice(0, at) + text + name.slice(at);
const replacedAt = (name: string, at: number, text: string): string => name.slice(0, at) + text + name.slice(at + 1);

/** Variants that no canonical name can be: every one must be refused, none repaired. */
export const unacceptableVariants = (name: string): string[] => {
  const found = new Set<string>();
  const upper = name.toUpperCase();
  for (let bits = 1; bits < 64; bits += 1) {
    found.add([...name].map((char, i) => ((bits >> (i % 6)) & 1 ? (upper[i] ?? char) : char)).join(''));
  }
  for (let at = 0; at <= name.length; at += 1) {
    for (const text of [...zeroWidth, ...spaces, ...controls, ...marks, ...punctuation])
      found.add(insertedAt(name, at, text));
  }
  for (const [at, char] of [...name].entries()) {
    for (const other of homoglyphs[char] ?? []) found.add(replacedAt(name, at, other));
    found.add(replacedAt(name, at, String.fromCharCode(char.charCodeAt(0) + 0xfee0)));
  }
  for (const text of [name.normalize('NFD'), `${name}.`, `.${name}`, `-${name}`, `${name}_`, `${name}/`, `/${name}`]) {
    found.add(text);
  }
  for (const text of [`${name}%00`, `${name}%20`, `../${name}`, `${name}/..`, `${name};x`, `${name}?x`, `${name}#x`]) {
    found.add(text);
  }
  for (const text of [`"${name}"`, `'${name}'`, `${name}\\`, `${name},${name}`, `${name}*`, `${name}:`, `[${name}]`]) {
    found.add(text);
  }
  found.delete(name);
  return [...found].filter((text) => !/^[a-z0-9][a-z0-9._-]*[a-z0-9]$/.test(text));
};
