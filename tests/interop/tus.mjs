// Upload a file to an address with the stock tus client: node tus.mjs ADDRESS FILE CHUNK
import { readFileSync } from "node:fs";
import { Upload } from "tus-js-client";

const [address, path, chunk] = process.argv.slice(2);
const upload = new Upload(readFileSync(path), {
  uploadUrl: address,
  chunkSize: Number(chunk),
  retryDelays: [0, 200, 1000],
  onError: (error) => {
    console.error(error.message);
    process.exit(1);
  },
  onSuccess: () => console.log("done"),
});
upload.start();
