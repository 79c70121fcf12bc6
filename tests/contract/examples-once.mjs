// Spectral's rules for examples, which look at each example once.
//
// They are made to look at the document with all references replaced, in which the same example stands at thousands
// of places, and compile its schema at each. Here they look for examples in the document as it is written, and check
// each with the references of its schema replaced.

import { oas } from '@stoplight/spectral-rulesets';

const NAMES = ['oas3-valid-media-example', 'oas3-valid-schema-example'];

function once(check) {
  return (written, options, context) => {
    const { documentInventory, path } = context;
    const whole = path.reduce((node, key) => node[key], documentInventory.resolved);
    return check(whole, options, context);
  };
}

const rules = NAMES.map((name) => {
  const { then, ...rule } = oas.rules[name];
  return [name, { ...rule, resolved: false, then: { ...then, function: once(then.function) } }];
});

export default { rules: Object.fromEntries(rules) };
