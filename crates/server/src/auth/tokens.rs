//! The bearer tokens: several may be valid at once, so that one can be replaced without a gap. Each has a name, which stands
//! in approvals and in the scope of idempotency keys.

use std::{num::NonZeroU32, sync::Arc};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// One token, without its text: comparing digests takes the same time wherever two tokens differ.
pub(crate) struct Token {
    pub(crate) name: Arc<str>,
    digest: [u8; 32],
    requests: Option<DefaultDirectRateLimiter>,
}

impl Token {
    pub(crate) fn new(name: &str, token: &str, requests_per_second: Option<NonZeroU32>) -> Self {
        let requests = requests_per_second.map(|limit| RateLimiter::direct(Quota::per_second(limit)));
        Self { name: name.into(), digest: Sha256::digest(token.as_bytes()).into(), requests }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// There were too many: seconds to wait.
    pub(crate) fn admit(&self) -> Result<(), u64> {
        self.requests.as_ref().map_or(Ok(()), admit)
    }
}

/// The valid tokens; none: every route is open.
pub(crate) struct Tokens(Vec<Token>);

impl Tokens {
    pub(crate) fn new(tokens: Vec<Token>) -> Self {
        Self(tokens)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The token with this text. All are looked at, so that the time does not tell which it was.
    pub(crate) fn find(&self, text: &str) -> Option<&Token> {
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        self.0.iter().fold(None, |found, token| if token.digest.ct_eq(&digest).into() { Some(token) } else { found })
    }
}

/// Takes one from the limiter, or tells in how many whole seconds there will be one.
pub(super) fn admit(limiter: &DefaultDirectRateLimiter) -> Result<(), u64> {
    limiter.check().map_err(|refused| refused.wait_time_from(limiter.clock().now()).as_secs() + 1)
}
