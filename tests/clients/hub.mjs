// Reads and writes through the gateway as @huggingface/hub does: hub.mjs ENDPOINT REPO FOLDER TOKEN, run where it is installed.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(process.cwd() + "/");
const hub = await import(pathToFileURL(require.resolve("@huggingface/hub")));
const [endpoint, repo, folder, accessToken] = process.argv.slice(2);
const of = { repo, hubUrl: endpoint };

const info = await hub.modelInfo({ name: repo, hubUrl: endpoint, additionalFields: ["sha"] });
assert.match(info.sha, /^[0-9a-f]{40}$/);
const paths = [];
for await (const file of hub.listFiles({ ...of, recursive: true })) {
  if (file.type === "file") paths.push(file.path);
}
assert.ok(paths.length > 0);
for (const path of paths) {
  const blob = await hub.downloadFile({ ...of, path });
  const [came, published] = [Buffer.from(await blob.arrayBuffer()), await readFile(`${folder}/${path}`)];
  assert.ok(came.equals(published), path);
}
assert.equal(await hub.downloadFile({ ...of, path: "no-such-file" }), null);
assert.equal(await hub.fileExists({ ...of, path: paths[0] }), true);
const found = [];
for await (const model of hub.listModels({ search: { query: repo.split("/")[1] }, hubUrl: endpoint })) found.push(model.name);
assert.ok(found.includes(repo), `${found}`);

const written = { type: "model", name: "local/from-js" };
await hub.createRepo({ repo: written, accessToken, hubUrl: endpoint });
const commit = await hub.commit({
  repo: written,
  accessToken,
  hubUrl: endpoint,
  title: "from JavaScript",
  operations: [{ operation: "addOrUpdate", path: "a.txt", content: new Blob(["hello"]) }],
});
assert.match(commit.commit.oid, /^[0-9a-f]{40}$/);
const back = await hub.downloadFile({ repo: written, path: "a.txt", hubUrl: endpoint });
assert.equal(await back.text(), "hello");
console.log("all held");
