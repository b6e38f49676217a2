// From a plugin in JavaScript or TypeScript to its component: `node build.mjs DIR COMPONENT CACHE`.
//
// `pointsman plugin build` puts this file beside the SDK (`src/`), the contract (`contract/`) and the toolchain (`node_modules/`), and
// runs it. The plugin and all that it imports become one module; what of the contract that module uses becomes the component's
// world: so a plugin asks for the grants that it needs, and for no others.
//
// What it does not do: it installs nothing, and writes nothing but the component and its copy in CACHE.
//
// **Invariant:** the component hangs on the module, the contract and the toolchain alone. A build of the same ones is a copy.
import { createHash } from "node:crypto";
import { spawnSync } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { componentize } from "@bytecodealliance/componentize-js";
import { rolldown } from "rolldown";

const HERE = dirname(fileURLToPath(import.meta.url));
const HOOKS = ["routing", "prompting", "caching"];
const SDK = { "@pointsman/plugin": join(HERE, "src/index.ts"), "@pointsman/plugin/export": join(HERE, "src/export.ts") };
const ENTRY = "\0pointsman:entry";
/** Everything of the runtime that would need WASI: a component imports the contract, and nothing else. */
const NO_WASI = ["stdio", "random", "clocks", "http", "fetch-event"];

/** What is wrong with the plugin, for whoever wrote it. */
class Wrong extends Error {}

async function exists(path) {
  return stat(path).then(() => true, () => false);
}

async function manifest(dir) {
  const found = JSON.parse(await readFile(join(dir, "package.json"), "utf8"));
  const candidates = found.main === undefined ? ["plugin.ts", "plugin.js", "src/index.ts", "src/index.js"] : [found.main];
  for (const name of candidates) {
    if (await exists(join(dir, name))) return { ...found, entry: join(dir, name) };
  }
  throw new Wrong(`there is no ${candidates.join(", ")}; write the plugin there, or name its file as \`main\` in package.json`);
}

/** One module of a file and all that it imports. `entry` is a file, or the text of one. */
async function bundle(dir, entry) {
  const isText = entry.includes("\n");
  const own = {
    name: "pointsman",
    // Before what a tsconfig.json says: a second copy of the SDK would not know the first one's classes.
    resolveId: (id) => (id === ENTRY ? ENTRY : (SDK[id] ?? null)),
    load: (id) => (id === ENTRY ? { code: entry, moduleType: "js" } : null),
  };
  const build = await rolldown({
    input: isText ? ENTRY : entry,
    cwd: dir,
    platform: "neutral",
    external: /^pointsman:/,
    resolve: { alias: SDK, mainFields: ["module", "main"], conditionNames: ["import", "default"] },
    // What is imported of the host and not used is not imported.
    treeshake: { moduleSideEffects: [{ external: true, sideEffects: false }] },
    plugins: [own],
    logLevel: "silent",
  });
  const { output } = await build.generate({ format: "esm", codeSplitting: false });
  return output[0];
}

/** The module that a component is made of: the plugin's hooks, in the contract's clothes. */
function entry(found, hooks) {
  const info = { name: found.name ?? "", version: found.version ?? "", description: found.description ?? "" };
  return [
    `import { ${hooks.map((hook) => `${hook} as ${hook}Hook`).join(", ")} } from ${JSON.stringify(found.entry)};`,
    `import * as made from "@pointsman/plugin/export";`,
    `export const lifecycle = made.lifecycle(${JSON.stringify(info)}, [${hooks.map((hook) => `${hook}Hook`).join(", ")}]);`,
    ...hooks.map((hook) => `export const ${hook} = made.${hook}(${hook}Hook);`),
    "",
  ].join("\n");
}

/** The contract with a world of what the module uses and has. */
async function world(imports, hooks) {
  const files = (await readdir(join(HERE, "contract"))).sort();
  const texts = await Promise.all(files.map((file) => readFile(join(HERE, "contract", file), "utf8")));
  const version = /^package ([^;]+);/m.exec(texts[0])[1];
  const uses = ["types", "request-data", ...imports.map((name) => name.replace(/^pointsman:plugin\/|@.*$/g, ""))];
  const lines = [...new Set(uses)].sort().map((name) => `import ${name};`).concat(["lifecycle", ...hooks].map((name) => `export ${name};`));
  const own = `package ${version};\n\nworld built { ${lines.join(" ")} }\n`;
  return [...files.map((file, index) => [file, texts[index]]), ["built.wit", own]];
}

/** Where the folder has a tsconfig.json, its types have to fit. */
async function check(dir, entry, scratch) {
  if (!(await exists(join(dir, "tsconfig.json")))) return;
  const paths = Object.fromEntries(Object.entries(SDK).map(([name, file]) => [name, [file]]));
  const own = { extends: join(dir, "tsconfig.json"), compilerOptions: { noEmit: true, allowJs: true, paths }, files: [entry], include: [] };
  await writeFile(join(scratch, "tsconfig.json"), JSON.stringify(own));
  const tsc = join(HERE, "node_modules/typescript/bin/tsc");
  const ran = spawnSync(process.execPath, [tsc, "-p", join(scratch, "tsconfig.json"), "--pretty", "false"], { cwd: dir, encoding: "utf8" });
  if (ran.status !== 0) throw new Wrong(`its types do not fit:\n${(ran.stdout + ran.stderr).trim()}`);
}

/** A copy under the digest of what it is made of. */
async function made(file, cache, parts, make) {
  const digest = createHash("sha256");
  for (const part of parts) digest.update(`${Buffer.byteLength(part)}\n`).update(part);
  const kept = join(cache, `${digest.digest("hex")}.wasm`);
  if (!(await exists(kept))) {
    await mkdir(cache, { recursive: true });
    const beside = `${kept}.${process.pid}`;
    await writeFile(beside, await make());
    await rename(beside, kept);
  }
  const now = new Date();
  await utimes(kept, now, now);
  await copyFile(kept, file);
}

async function build(dir, file, cache) {
  const scratch = await mkdtemp(join(tmpdir(), "pointsman-js-"));
  try {
    const found = await manifest(dir);
    const exported = (await bundle(dir, found.entry)).exports;
    const hooks = HOOKS.filter((hook) => exported.includes(hook));
    if (hooks.length === 0) throw new Wrong(`${found.entry} exports no hook; write \`export const routing = { … };\`, or prompting, or caching`);
    await check(dir, found.entry, scratch);
    const module = await bundle(dir, entry(found, hooks));
    const contract = await world(module.imports, hooks);
    const parts = [await readFile(join(HERE, "node_modules/.package-lock.json"), "utf8"), module.code, ...contract.flat()];
    await made(file, cache, parts, async () => {
      const wit = join(scratch, "wit");
      await mkdir(wit);
      await Promise.all(contract.map(([name, text]) => writeFile(join(wit, name), text)));
      await writeFile(join(scratch, "plugin.js"), module.code);
      process.chdir(scratch);
      const { component } = await componentize({ sourcePath: "plugin.js", witPath: "wit", worldName: "built", disableFeatures: NO_WASI });
      return component;
    });
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

const [dir, file, cache] = process.argv.slice(2).map((path) => resolve(path));
try {
  await build(dir, file, cache);
} catch (error) {
  process.stderr.write(`${error instanceof Wrong ? error.message : (error?.message ?? error)}\n`);
  process.exitCode = 1;
}
