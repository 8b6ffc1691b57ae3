// node check.cjs FOLDER DOCUMENT: the official parser, installed in FOLDER, reads a document.
const { readFileSync } = require("node:fs");
const { join } = require("node:path");

const [, , folder, path] = process.argv;
const { Parser } = require(join(folder, "node_modules", "@asyncapi/parser"));
const ERROR = 0;

new Parser().parse(readFileSync(path, "utf8")).then(({ document, diagnostics }) => {
  for (const each of diagnostics) console.log(each.severity, each.path.join("."), each.message);
  if (document === undefined || diagnostics.some((each) => each.severity === ERROR)) process.exit(1);
  const channels = document.channels().all().length;
  console.log(`${channels} channels, ${document.operations().all().length} operations`);
});
