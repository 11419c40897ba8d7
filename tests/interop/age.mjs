// Seals and opens with the JavaScript age implementation: a JSON list of tasks in, a list of results out.
import { readFileSync } from "node:fs";
import * as age from "age-encryption";

const fromBase64 = (text) => new Uint8Array(Buffer.from(text, "base64"));
const toBase64 = (data) => Buffer.from(data).toString("base64");

const tasks = {
  async seal({ recipient, data }) {
    const encrypter = new age.Encrypter();
    encrypter.addRecipient(recipient);
    return { sealed: toBase64(await encrypter.encrypt(fromBase64(data))) };
  },
  async open({ identity, sealed }) {
    const decrypter = new age.Decrypter();
    decrypter.addIdentity(identity);
    return { data: toBase64(await decrypter.decrypt(fromBase64(sealed))) };
  },
  async sealWithPassphrase({ passphrase, data }) {
    const encrypter = new age.Encrypter();
    encrypter.setPassphrase(passphrase);
    encrypter.setScryptWorkFactor(10);
    return { sealed: toBase64(await encrypter.encrypt(fromBase64(data))) };
  },
  async openWithPassphrase({ passphrase, sealed }) {
    const decrypter = new age.Decrypter();
    decrypter.addPassphrase(passphrase);
    return { data: toBase64(await decrypter.decrypt(fromBase64(sealed))) };
  },
  async recipient({ identity }) {
    return { recipient: await age.identityToRecipient(identity) };
  },
  async generate() {
    const identity = await age.generateHybridIdentity();
    return { identity, recipient: await age.identityToRecipient(identity) };
  },
};

const results = [];
for (const { task, ...parameters } of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    results.push(await tasks[task](parameters));
  } catch (error) {
    results.push({ error: error.message });
  }
}
process.stdout.write(JSON.stringify(results));
