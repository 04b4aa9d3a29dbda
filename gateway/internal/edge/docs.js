"use strict";

// The page builds itself from openapi.json with text nodes only: nothing that
// a server or a file name says can become markup.
const el = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
};
const byId = (id) => document.getElementById(id);

const resolve = (doc, schema) => {
  while (schema && schema.$ref) schema = doc.definitions[schema.$ref.split("/").pop()];
  return schema || {};
};

const sample = (doc, schema) => {
  schema = resolve(doc, schema);
  if (schema.type === "object") {
    const out = {};
    for (const [name, child] of Object.entries(schema.properties || {})) out[name] = sample(doc, child);
    return out;
  }
  if (schema.type === "array") return [sample(doc, schema.items)];
  if (schema.type === "integer" || schema.type === "number") return 0;
  if (schema.type === "boolean") return false;
  return schema.type === "string" ? "" : null;
};

const show = async (response, out) => {
  const head = response.status + " " + response.statusText + "\n";
  const type = response.headers.get("Content-Type") || "";
  if (type.startsWith("audio/")) {
    const blob = await response.blob();
    out.replaceChildren(el("pre", { textContent: head + type + ", " + blob.size + " bytes" }),
      el("audio", { controls: true, src: URL.createObjectURL(blob) }));
    return;
  }
  let text = await response.text();
  try { text = JSON.stringify(JSON.parse(text), null, 2); } catch { /* shown as it is */ }
  out.replaceChildren(el("pre", { textContent: head + text }));
};

const operation = (doc, path, method, op) => {
  const inputs = {};
  const form = el("form", { autocomplete: "off" });
  let payload = null;
  for (const p of op.parameters || []) {
    if (p.in === "body") {
      payload = p.schema && p.schema.format === "binary"
        ? el("input", { type: "file" })
        : el("textarea", { value: JSON.stringify(sample(doc, p.schema), null, 2) });
      form.append(el("label", {}, "body ", payload));
    } else if (p.name !== "domain") {
      inputs[p.name] = el("input", { required: p.required });
      form.append(el("label", {}, p.name + " ", inputs[p.name]));
    }
  }
  const out = el("div");
  form.append(el("div", {}, el("button", { textContent: "Send" })));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const headers = { Authorization: "Bearer " + byId("key").value };
    const query = new URLSearchParams();
    let url = path.replace("{domain}", encodeURIComponent(byId("domain").value));
    for (const p of op.parameters || []) {
      const value = inputs[p.name] && inputs[p.name].value;
      if (!value) continue;
      if (p.in === "path") url = url.replace("{" + p.name + "}", encodeURIComponent(value));
      if (p.in === "query") query.set(p.name, value);
      if (p.in === "header") headers[p.name] = value;
    }
    if (query.size) url += "?" + query;
    const request = { method: method.toUpperCase(), headers };
    if (payload && payload.type === "file") {
      request.body = payload.files[0];
      headers["Content-Type"] = "application/octet-stream";
    } else if (payload) {
      request.body = payload.value;
      headers["Content-Type"] = "application/json";
    }
    try {
      await show(await fetch(url, request), out);
    } catch (error) {
      out.replaceChildren(el("pre", { textContent: String(error) }));
    }
  });
  return el("details", {},
    el("summary", {}, el("span", { className: "method", textContent: method.toUpperCase() }), el("span", { className: "path", textContent: path })),
    el("p", { textContent: op.summary || "" }), form, out);
};

const load = async () => {
  const doc = await (await fetch("openapi.json")).json();
  byId("about").textContent = doc.info.description;
  const main = byId("operations");
  main.replaceChildren();
  for (const tag of doc.tags) {
    const section = el("section", {}, el("h2", { textContent: tag.name }), el("p", { textContent: tag.description || "" }));
    for (const [path, item] of Object.entries(doc.paths)) {
      // The bare twins are the same operations.
      if (path.startsWith("/{domain}/")) continue;
      for (const [method, op] of Object.entries(item)) {
        if ((op.tags || []).includes(tag.name)) section.append(operation(doc, path, method, op));
      }
    }
    main.append(section);
  }
};

load().catch((error) => byId("operations").replaceChildren(el("pre", { textContent: String(error) })));
