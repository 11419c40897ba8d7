// Writes the C2SP/CCTV age test vectors as one JSON object: name to Base64.
import * as vectors from "cctv-age";

const named = Object.entries(vectors).map(([name, data]) => [
  name,
  Buffer.from(data).toString("base64"),
]);
process.stdout.write(JSON.stringify(Object.fromEntries(named)));
