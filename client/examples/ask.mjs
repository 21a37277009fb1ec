// Asks about a text and gives the right label back, with fetch alone:  node ask.mjs "my card was stolen" lost_card
// It runs on a server. A page in a browser is refused: it would let everybody ask who can open the page.
const http = process.env.PERENNIAL_HTTP ?? "http://127.0.0.1:8000";
const api = process.env.PERENNIAL_API ?? "http://127.0.0.1:8080";
const model = process.env.PERENNIAL_MODEL ?? "intent";

async function post(url, body, attempts = 5) {
  const headers = { "Content-Type": "application/json" };
  if (process.env.PERENNIAL_TOKEN) headers.Authorization = `Bearer ${process.env.PERENNIAL_TOKEN}`;
  const answer = await fetch(url, {
    method: "POST", headers, body: JSON.stringify(body), signal: AbortSignal.timeout(30_000),
  });
  if (answer.status === 503 && attempts > 1) { // it cannot answer now, and says after how many seconds it may
    const seconds = Number(answer.headers.get("Retry-After") ?? 1);
    await new Promise((done) => setTimeout(done, 1000 * seconds));
    return post(url, body, attempts - 1);
  }
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}: ${await answer.text()}`);
  return answer.json();
}

const [text, label] = process.argv.slice(2);
const { outputs } = await post(`${http}/v2/models/${model}/infer`, {
  inputs: [{ name: "TEXT", shape: [1, 1], datatype: "BYTES", data: [text] }],
  outputs: [{ name: "LABEL" }, { name: "CONFIDENCE" }, { name: "VERSION" }, { name: "PREDICTION_ID" }],
});
const said = Object.fromEntries(outputs.map(({ name, data }) => [name, data[0]]));
console.log(said.LABEL, said.CONFIDENCE.toFixed(2), "by version", said.VERSION);

// With the time of the label, sending it again changes nothing.
const row = { prediction_id: said.PREDICTION_ID, label, at: new Date().toISOString() };
const kept = await post(`${api}/v1/feedback`, { model, labels: [row] });
console.log(kept.new, "new label");
