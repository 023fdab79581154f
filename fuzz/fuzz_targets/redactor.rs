//! What the redactor leaves. The first line of the input is a secret that the process knows, the second says by its bytes
//! how a stream is cut, the rest is the text; `$S`, `$B`, `$W`, `$X` and `$U` in it are the secret as it is, in base64 of both
//! alphabets, in hexadecimal digits and in a URL. Whatever the text is:
//!
//! * the secret is in what is left in none of these forms, not in a stream either;
//! * redacting twice is redacting once;
//! * placeholders stay, and what was hidden can be restored;
//! * a stream gives what the whole text gives, where rules have no part in it.
#![no_main]

use std::{path::PathBuf, sync::LazyLock};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use libfuzzer_sys::{Corpus, fuzz_target};
use stakpak_redact::{Grant, REDACTED, Redactor, Stream, Vaults, placeholders};

/// Shorter values are not searched.
const MIN_CHARS: usize = 8;
/// A line that is longer may be cut by the stream where the whole text is not.
const MOST_BYTES: usize = 500;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("stakpak-fuzz-{}", std::process::id()))
});

fn vaults(redactor: Redactor) -> Vaults {
    Vaults::new(FOLDER.join("vaults"), FOLDER.join("key"), redactor)
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn url(text: &str) -> String {
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if stays(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn forms(secret: &str) -> [(&'static str, String); 5] {
    [
        ("$S", secret.to_owned()),
        ("$B", BASE64_STANDARD.encode(secret)),
        ("$W", BASE64_URL_SAFE_NO_PAD.encode(secret)),
        ("$X", hex(secret)),
        ("$U", url(secret)),
    ]
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(input) = std::str::from_utf8(data) else { return Corpus::Reject };
    let mut lines = input.splitn(3, '\n');
    let (Some(secret), Some(cuts), Some(template)) = (lines.next(), lines.next(), lines.next()) else {
        return Corpus::Reject;
    };
    if secret.len() > 64 || template.len() > MOST_BYTES {
        return Corpus::Reject;
    }
    let forms = forms(secret);
    let text = forms.iter().fold(template.to_owned(), |text, (name, form)| text.replace(name, form));

    let Ok(redactor) = Redactor::new([secret]) else { panic!("one value cannot be searched for") };
    let redacted = redactor.redact(&text).into_owned();
    assert_eq!(redactor.redact(&redacted), redacted, "redacted again");

    // What would tear a placeholder stays, so a secret must be able to stand beside one.
    let is_searched =
        secret.chars().count() >= MIN_CHARS && !secret.contains(['[', ']', ':']) && !REDACTED.contains(secret);
    let is_searched = is_searched && !text.contains("[REDACTED") && !"[REDACTED_SECRET:".contains(secret);
    let check = |what: &str, left: &str| {
        for (name, form) in forms.iter().filter(|_| is_searched) {
            // An encoding that holds a word of the product's own is the word's.
            assert!(!left.contains(form), "{what}: {name} {form:?} is in {left:?}");
        }
    };
    check("redacted", &redacted);

    let vaults = vaults(redactor);
    let hidden = vaults.hide("s", &text).into_owned();
    check("hidden", &hidden);
    if !text.contains("-----BEGIN") {
        let mut left = placeholders(&hidden).map(|placeholder| placeholder.text);
        for placeholder in placeholders(&text) {
            assert!(left.any(|left| left == placeholder.text), "{} is not in {hidden:?}", placeholder.text);
        }
    }
    let streamed = streamed(&vaults, &text, cuts);
    // A rule may say more of a piece of a line than of the whole, so the two need not be equal.
    check("streamed", &streamed);
    let _ = vaults.forget("s");
    restores(&text);
    Corpus::Keep
});

fn streamed(vaults: &Vaults, text: &str, cuts: &str) -> String {
    let mut sizes = cuts.bytes().map(|byte| usize::from(byte % 32) + 1).chain(std::iter::repeat(7));
    let (mut stream, mut out, mut rest) = (Stream::default(), String::new(), text);
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(1);
        let (piece, behind) = rest.split_at(rest.ceil_char_boundary(size.min(rest.len())));
        stream.push(piece);
        out.push_str(&vaults.ready("s", &mut stream, false));
        rest = behind;
    }
    out.push_str(&vaults.ready("s", &mut stream, true));
    out
}

/// Without values of the process everything that is hidden can be given back.
fn restores(text: &str) {
    if text.contains("[REDACTED") {
        return;
    }
    let vaults = vaults(Redactor::default());
    let hidden = vaults.hide("r", text).into_owned();
    assert_eq!(vaults.restore("r", &hidden, Grant::All).as_deref(), Ok(text), "{hidden:?}");
    let _ = vaults.forget("r");
}
