'use strict';
// Renders openapi.json. Text of the document only ever becomes text nodes.
const root = location.pathname.replace(/docs\/?$/, '');
const $ = (id) => document.getElementById(id);
let api = {};

function h(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return node;
}

const resolve = (schema) => (schema && schema.$ref ? api.components.schemas[schema.$ref.split('/').pop()] : schema) || {};
const nullable = (schema) => schema.type === 'null';

function type(schema) {
  if (!schema) return ['any'];
  if (schema.$ref) {
    const name = schema.$ref.split('/').pop();
    return [h('a', { href: '#schema-' + name, textContent: name, onclick: () => open(name) })];
  }
  const options = schema.oneOf || schema.anyOf;
  if (options) return options.flatMap((option, index) => (index ? [' | ', ...type(option)] : type(option)));
  if (schema.allOf) return schema.allOf.flatMap((part, index) => (index ? [' & ', ...type(part)] : type(part)));
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(' | ')];
  if (schema.type === 'array') return [...type(schema.items), '[]'];
  const names = [schema.type || 'any'].flat().join(' | ');
  return [schema.format ? names + ' (' + schema.format + ')' : names];
}

function open(name) {
  const target = $('schema-' + name);
  if (target) target.open = true;
}

function fields(schema) {
  const known = resolve(schema);
  const options = known.oneOf || known.anyOf;
  if (options && !known.properties) {
    return h('div', {}, options.filter((option) => !nullable(option)).map((option) => h('div', {},
      h('p', { className: 'type' }, type(option), option.description ? ' – ' + option.description : ''),
      option.properties ? fields(option) : '')));
  }
  const parts = (known.allOf || [known]).map(resolve);
  const rows = parts.flatMap((part) => Object.entries(part.properties || {}).map(([name, field]) => h('tr', {},
    h('td', {}, h('code', { textContent: name }), (part.required || []).includes(name) ? ' *' : ''),
    h('td', { className: 'type' }, type(field)),
    h('td', { textContent: field.description || '' }))));
  return rows.length ? h('table', {}, rows) : h('p', { className: 'type' }, type(known));
}

function example(schema, depth = 0) {
  const known = resolve(schema);
  if (known.example !== undefined) return known.example;
  if (known.default !== undefined) return known.default;
  const options = known.oneOf || known.anyOf;
  if (options) return example(options.find((option) => !nullable(option)), depth);
  if (known.allOf) return Object.assign({}, ...known.allOf.map((part) => example(part, depth)));
  if (known.enum) return known.enum[0];
  if (known.properties) {
    const needed = Object.entries(known.properties).filter(([name]) => (known.required || []).includes(name));
    return depth > 6 ? {} : Object.fromEntries(needed.map(([name, field]) => [name, example(field, depth + 1)]));
  }
  const kind = [known.type].flat().find((name) => name !== 'null');
  if (kind === 'array') return [example(known.items, depth + 1)];
  return { string: '', integer: 0, number: 0, boolean: false, object: {} }[kind] ?? null;
}

function media(content) {
  const [kind, value] = Object.entries(content || {})[0] || [];
  return { kind, schema: value && value.schema };
}

function tryOut(method, path, operation, parameters) {
  const inputs = parameters.map((parameter) => ({ parameter, input: h('input', { placeholder: parameter.in, ariaLabel: parameter.name }) }));
  const { schema } = media(operation.requestBody && operation.requestBody.content);
  const body = schema ? h('textarea', { ariaLabel: 'body', value: JSON.stringify(example(schema), null, 2) }) : null;
  const output = h('pre', { hidden: true });
  const request = () => {
    const headers = operation.security ? { authorization: 'Bearer ' + $('token').value } : {};
    const query = new URLSearchParams();
    let url = root + path.slice(1);
    for (const { parameter, input } of inputs) {
      if (parameter.in === 'path' && input.value) url = url.replace('{' + parameter.name + '}', encodeURIComponent(input.value));
      else if (input.value && parameter.in === 'query') query.set(parameter.name, input.value);
      else if (input.value) headers[parameter.name] = input.value;
    }
    if (body) headers['content-type'] = 'application/json';
    const text = query.toString();
    return { url: text ? url + '?' + text : url, headers, body: body ? body.value : undefined };
  };
  const send = h('button', { textContent: 'Send', onclick: () => exchange(method, request(), output, stop) });
  const stop = h('button', { textContent: 'Stop', hidden: true });
  const curl = h('button', { textContent: 'Show as curl', onclick: () => {
    output.hidden = false;
    output.textContent = asCurl(method, request());
  } });
  return h('div', {}, h('h3', { textContent: 'Try it' }),
    inputs.length ? h('table', {}, inputs.map(({ parameter, input }) => h('tr', {},
      h('td', {}, h('code', { textContent: parameter.name }), parameter.required ? ' *' : ''), h('td', {}, input),
      h('td', { textContent: parameter.description || '' })))) : '',
    body ? h('p', {}, body) : '', h('p', {}, send, ' ', stop, ' ', curl), output);
}

async function exchange(method, request, output, stop) {
  const abort = new AbortController();
  output.hidden = false;
  output.className = '';
  output.textContent = method + ' ' + request.url + '\n';
  stop.hidden = false;
  stop.onclick = () => abort.abort();
  try {
    const answer = await fetch(request.url, { method, headers: request.headers, body: request.body, signal: abort.signal });
    output.className = answer.ok ? '' : 'bad';
    output.textContent += answer.status + ' ' + answer.statusText + '\nx-request-id: ' + answer.headers.get('x-request-id') + '\n\n';
    if ((answer.headers.get('content-type') || '').startsWith('application/json')) {
      const value = await answer.json();
      output.textContent += JSON.stringify(value, null, 2);
      if (value.code === 'origin_not_allowed') {
        output.textContent += '\n\nRequests that change something are refused from web pages. Use "Show as curl", or add\n'
          + '  allowed_origins = ["' + location.origin + '"]\nto [server] in autopilot.toml.';
      }
    } else {
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        output.append(piece.value);
        output.scrollTop = output.scrollHeight;
      }
    }
  } catch (error) {
    output.append('\n' + error);
  } finally {
    stop.hidden = true;
  }
}

function asCurl(method, { url, headers, body }) {
  const quote = (text) => "'" + text.replaceAll("'", "'\\''") + "'";
  const shown = Object.entries(headers).map(([name, value]) => name === 'authorization'
    ? '-H "authorization: Bearer $(cat ~/.stakpak/autopilot/token)"' : '-H ' + quote(name + ': ' + value));
  return ['curl -N -X ' + method + ' ' + quote(location.origin + url), ...shown, ...(body ? ['-d ' + quote(body)] : [])].join(' \\\n  ');
}

function operationNode(method, path, operation, shared) {
  const parameters = [...(shared || []), ...(operation.parameters || [])];
  const node = h('details', {}, h('summary', {},
    h('span', { className: 'method ' + method, textContent: method }), h('span', { className: 'path', textContent: path }),
    h('span', { className: 'text', textContent: operation.summary || '' }),
    operation.security ? '' : h('span', { className: 'public', textContent: 'no token' })));
  node.dataset.search = (method + ' ' + path + ' ' + (operation.summary || '')).toLowerCase();
  node.addEventListener('toggle', () => {
    if (!node.open || node.children.length > 1) return;
    const asked = media(operation.requestBody && operation.requestBody.content);
    node.append(h('div', { className: 'body' },
      operation.description ? h('p', { textContent: operation.description }) : '',
      asked.schema ? [h('h3', { textContent: 'Body' }), h('p', { className: 'type' }, type(asked.schema)), fields(asked.schema)] : [],
      h('h3', { textContent: 'Answers' }),
      h('table', {}, Object.entries(operation.responses || {}).map(([status, answer]) => h('tr', {},
        h('td', { textContent: status }), h('td', { className: 'type' }, media(answer.content).kind ? type(media(answer.content).schema) : ''),
        h('td', { textContent: answer.description || '' })))),
      tryOut(method, path, operation, parameters)));
  });
  return node;
}

function render() {
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of ['get', 'post', 'put', 'patch', 'delete']) {
      if (!item[method]) continue;
      const tag = (item[method].tags || ['other'])[0];
      groups.set(tag, [...(groups.get(tag) || []), operationNode(method.toUpperCase(), path, item[method], item.parameters)]);
    }
  }
  const schemas = Object.entries((api.components || {}).schemas || {}).map(([name, schema]) => {
    const node = h('details', { id: 'schema-' + name }, h('summary', {}, h('code', { textContent: name }),
      h('span', { className: 'text', textContent: (schema.description || '').split('\n')[0] })));
    node.addEventListener('toggle', () => {
      if (node.open && node.children.length < 2) node.append(h('div', { className: 'body' }, fields(schema)));
    });
    return node;
  });
  $('main').replaceChildren(...[...groups].map(([tag, nodes]) => h('section', {}, h('h2', { textContent: tag }), nodes)),
    h('section', {}, h('h2', { textContent: 'types' }), schemas));
}

$('document').href = root + 'v1/openapi.json';
$('filter').addEventListener('input', () => {
  const wanted = $('filter').value.toLowerCase();
  for (const node of document.querySelectorAll('details[data-search]')) node.hidden = !node.dataset.search.includes(wanted);
});
fetch(root + 'v1/openapi.json').then((answer) => answer.json()).then((found) => {
  api = found;
  render();
}).catch((error) => { $('state').textContent = 'the API document cannot be read: ' + error; });
