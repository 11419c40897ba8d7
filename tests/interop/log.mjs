// Judges proofs and checkpoints: with sigstore's verifier, and where it has none with Node's own crypto. A JSON list of
// tasks in, a list of results out.
import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { verifyMerkleInclusion } = require("@sigstore/verify/dist/tlog/merkle.js");
const { verifyCheckpoint } = require("@sigstore/verify/dist/tlog/checkpoint.js");

const fromBase64 = (text) => Buffer.from(text, "base64");
const ED25519_SPKI = Buffer.from("302a300506032b6570032100", "hex");
const publicKey = (raw) =>
  createPublicKey({ key: Buffer.concat([ED25519_SPKI, raw]), format: "der", type: "spki" });

function keyOf(vkey) {
  const name = vkey.slice(0, vkey.indexOf("+"));
  const id = vkey.slice(name.length + 1, name.length + 9);
  const material = fromBase64(vkey.slice(name.length + 10));
  const digest = createHash("sha256").update(`${name}\n`).update(material).digest();
  if (digest.subarray(0, 4).toString("hex") !== id) throw new Error("The key has another id.");
  return { name, id: digest.subarray(0, 4), type: material[0], key: publicKey(material.subarray(1)) };
}

const attempt = (check) => {
  try {
    return check();
  } catch {
    return { ok: false };
  }
};

const tasks = {
  inclusion: ({ entry, index, size, root, hashes }) =>
    attempt(() => {
      verifyMerkleInclusion(
        {
          canonicalizedBody: fromBase64(entry),
          inclusionProof: { logIndex: String(index), hashes: hashes.map(fromBase64) },
        },
        { logSize: BigInt(size), logHash: fromBase64(root) },
      );
      return { ok: true };
    }),
  checkpoint: ({ note, vkey }) =>
    attempt(() => {
      const { name, id, key } = keyOf(vkey);
      const log = { logID: id, baseURL: name, publicKey: key };
      const found = verifyCheckpoint({ inclusionProof: { checkpoint: { envelope: note } } }, [log]);
      return { ok: true, size: String(found.logSize), root: found.logHash.toString("base64") };
    }),
  cosignature: ({ note, vkey }) =>
    attempt(() => {
      const { name, id, type, key } = keyOf(vkey);
      const [text, below] = note.split(/(?<=\n)\n/);
      const line = below.split("\n").find((one) => one.startsWith(`\u2014 ${name} `));
      const signed = fromBase64(line.split(" ")[2]);
      const time = signed.readBigUInt64BE(4);
      const message = Buffer.from(`cosignature/v1\ntime ${time}\n${text}`);
      const ok =
        type === 4 && signed.subarray(0, 4).equals(id) && verify(null, message, key, signed.subarray(12));
      return { ok, time: String(time) };
    }),
  proof: ({ proof, entry, vkey }) => {
    const end = proof.indexOf("\n\n");
    const lines = proof.slice(0, end).split("\n");
    const note = proof.slice(end + 2);
    if (lines.shift() !== "c2sp.org/tlog-proof@v1") return { ok: false };
    if (lines[0].startsWith("extra ")) lines.shift();
    const index = lines.shift().slice("index ".length);
    const { ok, size, root } = tasks.checkpoint({ note, vkey });
    return ok ? tasks.inclusion({ entry, index, size, root, hashes: lines }) : { ok };
  },
};

const given = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(given.map(({ task, ...parameters }) => tasks[task](parameters))));
