// Classifies by the service that this page comes from.

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, file) {
  const headers = {};
  if ($("secret").value) headers.Authorization = `Bearer ${$("secret").value}`;
  const request = { headers };
  if (file) {
    const form = new FormData();
    form.append("images", file, file.name || "pasted image");
    Object.assign(request, { method: "POST", body: form });
  }
  let answer;
  try {
    answer = await fetch(path, request);
  } catch {
    throw new Refused(0, "The service does not answer. Is it still running?");
  }
  const found = await answer.json().catch(() => ({ detail: `The service answered with ${answer.status}.` }));
  if (!answer.ok) throw new Refused(answer.status, found.detail);
  return found;
}

const engine = {
  where: "Images go to the service that this page comes from, and are not kept.",
  explainsAtOnce: true,
  open: () => ask("v1/model"),
  explain: (file) => ask("v1/explain", file),
  async predict(file) {
    if (file.size > facts.limits.bytes) throw new Refused(413, `The image has more than ${Math.round(facts.limits.bytes / 1e6)} MB.`);
    return (await ask("v1/predict", file)).predictions[0];
  },
};
