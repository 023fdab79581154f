//! `view_web_page`: a page of the public internet as Markdown.
//!
//! It is asked for over https, from public addresses. A name is resolved once for each request, what is not public is left
//! out, and the connection goes to what remains, so no second look-up leads elsewhere. A redirect is another request under the
//! same rules. No proxy is used: it would resolve names itself.

mod addresses;
mod resolver;

use std::{
    error::Error,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use encoding_rs::{Encoding, UTF_8};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE, LOCATION},
    redirect::Policy,
};
use tokio::{task::spawn_blocking, time::timeout};
use url::Host;

use self::resolver::{NotPublic, Resolver};
use crate::error::ToolError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const WHOLE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 5;
const MAX_BYTES: usize = 5 << 20;

/// What may be reached.
#[derive(Debug, Clone, Copy)]
struct Rules {
    scheme: &'static str,
    may_reach: fn(IpAddr) -> bool,
}

/// Reads pages.
#[derive(Debug)]
pub(crate) struct Web {
    rules: Rules,
    /// Made by the first call: reading the certificates of the system takes milliseconds.
    client: Mutex<Option<Client>>,
}

impl Default for Web {
    fn default() -> Self {
        Self::new(Rules { scheme: "https", may_reach: addresses::is_public })
    }
}

impl Web {
    fn new(rules: Rules) -> Self {
        Self { rules, client: Mutex::default() }
    }

    /// The page, marked as what others wrote.
    pub(crate) async fn view(&self, url: &str) -> Result<String, ToolError> {
        let page = timeout(WHOLE_TIMEOUT, self.follow(url)).await;
        page.unwrap_or_else(|_| Err(unreadable(url, format!("no whole answer within {} s", WHOLE_TIMEOUT.as_secs()))))
    }

    async fn follow(&self, url: &str) -> Result<String, ToolError> {
        let parsed = Url::parse(url).map_err(|error| insecure(url, &format!("it is not a URL ({error})")))?;
        let mut url = self.checked(parsed)?;
        for _ in 0..=MAX_REDIRECTS {
            let accepted = "text/markdown, text/html;q=0.9, text/*;q=0.8, */*;q=0.1";
            let request = self.client(&url)?.get(url.clone()).header(ACCEPT, accepted);
            let response = request.send().await.map_err(|error| failed(&url, &error))?;
            if !response.status().is_redirection() {
                return read(url, response).await;
            }
            let place = response.headers().get(LOCATION).and_then(|place| place.to_str().ok());
            let next = place.and_then(|place| url.join(place).ok());
            url = self.checked(next.ok_or_else(|| unreadable(&url, "it redirects to nowhere"))?)?;
        }
        Err(unreadable(&url, format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    /// Addresses that the URL spells out are never resolved, so they are looked at here.
    fn checked(&self, url: Url) -> Result<Url, ToolError> {
        if url.scheme() != self.rules.scheme {
            return Err(insecure(&url, &format!("only {} is asked for", self.rules.scheme)));
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err(insecure(&url, "it has no host")),
        };
        match address {
            Some(address) if !(self.rules.may_reach)(address) => Err(not_public(&url)),
            _ => Ok(url),
        }
    }

    fn client(&self, url: &Url) -> Result<Client, ToolError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = client.as_ref() {
            return Ok(client.clone());
        }
        let made = Client::builder()
            .user_agent(concat!("stakpak/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .dns_resolver(Resolver { may_reach: self.rules.may_reach })
            .build();
        let made = made.map_err(|error| unreadable(url, format!("no HTTP client could be made: {error}")))?;
        Ok(client.insert(made).clone())
    }
}

async fn read(url: Url, mut response: Response) -> Result<String, ToolError> {
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("text/plain");
    let (essence, parameters) = kind.split_once(';').unwrap_or((kind, ""));
    let essence = essence.trim().to_ascii_lowercase();
    if !is_text(&essence) {
        return Err(unreadable(&url, format!("it is {essence}, not text")));
    }
    let encoding = charset(parameters);
    let mut body = Vec::new();
    let mut is_cut = false;
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&url, &error))? {
        let room = MAX_BYTES - body.len();
        is_cut = chunk.len() > room;
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if is_cut {
            break;
        }
    }
    let text = spawn_blocking(move || as_markdown(&encoding.decode(&body).0, &essence)).await;
    let text = text.map_err(|error| unreadable(&url, format!("it could not be turned into Markdown: {error}")))?;
    page(&url, status, &text, is_cut)
}

fn page(url: &Url, status: StatusCode, text: &str, is_cut: bool) -> Result<String, ToolError> {
    let escaped = text.trim().replace(ELEMENT_END, "&lt;/untrusted_web_page");
    let cut = if is_cut { "\n[Cut: the page is longer than 5 MiB]" } else { "" };
    let href = url.as_str().replace('"', "%22").replace(['<', '>'], "");
    let page = format!("<untrusted_web_page url=\"{href}\">\n{escaped}{cut}\n{ELEMENT_END}>");
    if status.is_success() { Ok(page) } else { Err(unreadable(url, format!("the server answers {status}\n{page}"))) }
}

const ELEMENT_END: &str = "</untrusted_web_page";

fn as_markdown(text: &str, essence: &str) -> String {
    if !matches!(essence, "text/html" | "application/xhtml+xml") {
        return text.to_owned();
    }
    let converter =
        htmd::HtmlToMarkdown::builder().skip_tags(vec!["head", "script", "style", "noscript", "svg"]).build();
    converter.convert(text).unwrap_or_else(|_| text.to_owned())
}

fn is_text(essence: &str) -> bool {
    let named = ["application/json", "application/xml", "application/yaml", "application/x-yaml", "application/toml"];
    let code = ["application/javascript", "application/x-sh", "application/x-ndjson", "application/sql"];
    essence.starts_with("text/")
        || ["+json", "+xml", "+yaml"].iter().any(|end| essence.ends_with(end))
        || named.contains(&essence)
        || code.contains(&essence)
}

fn charset(parameters: &str) -> &'static Encoding {
    let parameters = parameters.split(';').filter_map(|parameter| parameter.trim().split_once('='));
    let named = parameters.filter(|(name, _)| name.eq_ignore_ascii_case("charset"));
    named.filter_map(|(_, label)| Encoding::for_label(label.trim_matches('"').as_bytes())).next().unwrap_or(UTF_8)
}

fn insecure(url: impl std::fmt::Display, why: &str) -> ToolError {
    ToolError::new("INSECURE_URL", format!("{url} is not asked for: {why}"))
}

fn not_public(url: &Url) -> ToolError {
    insecure(url, "its host is not on the public internet. Use run_command with curl for addresses of this network")
}

fn unreadable(url: impl std::fmt::Display, why: impl std::fmt::Display) -> ToolError {
    ToolError::new("READ_ERROR", format!("{url} could not be read: {why}"))
}

/// With the innermost cause: the outer ones say no more than that something failed.
fn failed(url: &Url, error: &reqwest::Error) -> ToolError {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if cause.is::<NotPublic>() { not_public(url) } else { unreadable(url, cause.to_string()) }
}

#[cfg(test)]
mod tests;
