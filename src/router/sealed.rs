//! What may leave the device, and nothing else: a request with its three proofs.

use super::budget::Hold;
use super::consent::Consent;
use super::policy::Endpoint;
use super::privacy::CleanScan;
use serde::ser::{Serialize, SerializeStruct, Serializer};

/// A request that somebody agreed to, that was scanned, and that the budget holds money for. There is no other way to
/// make one, and it cannot be changed:
///
/// ```compile_fail,E0451
/// use kinglet::router::sealed::SealedRequest;
/// fn forged() -> SealedRequest {
///     let hold = panic!("from nowhere");
///     SealedRequest { url: "https://example.com".into(), body: "{}".into(), hold }
/// }
/// ```
/// ```compile_fail,E0382
/// // A hold is for one request.
/// use kinglet::router::{budget::Hold, consent::Consent, policy::Endpoint, privacy::CleanScan, sealed::SealedRequest};
/// fn twice(endpoint: &Endpoint, consent: &Consent, scan: &CleanScan, hold: Hold) {
///     SealedRequest::seal(endpoint, consent, scan, hold);
///     SealedRequest::seal(endpoint, consent, scan, hold);
/// }
/// ```
/// ```
/// use kinglet::router::{budget::Hold, consent::Consent, policy::Endpoint, privacy::CleanScan, sealed::SealedRequest};
/// fn once(endpoint: &Endpoint, consent: &Consent, scan: &CleanScan, hold: Hold) -> Option<SealedRequest> {
///     SealedRequest::seal(endpoint, consent, scan, hold)
/// }
/// ```
///
/// Serialized it is what `fetch` needs: url, method, headers (without the token, which only the shell knows), body, and
/// the settings that keep cookies, the page's address and redirects to other hosts out of it.
#[derive(Debug, PartialEq, Eq)]
pub struct SealedRequest {
    url: String,
    body: String,
    /// Spent by being sealed in: it cannot pay for a second request.
    hold: Hold,
}

impl SealedRequest {
    /// None: the consent is for another destination or body, or the body was scanned for another endpoint.
    pub fn seal(endpoint: &Endpoint, consent: &Consent, scan: &CleanScan, hold: Hold) -> Option<Self> {
        let fits = consent.covers(scan) && scan.destination() == endpoint.destination();
        fits.then(|| Self { url: endpoint.url().to_string(), body: scan.body().to_string(), hold })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn body(&self) -> &str {
        &self.body
    }

    pub fn hold(&self) -> &Hold {
        &self.hold
    }
}

impl Serialize for SealedRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut request = serializer.serialize_struct("SealedRequest", 8)?;
        request.serialize_field("url", &self.url)?;
        request.serialize_field("method", "POST")?;
        request.serialize_field("headers", &[["content-type", "application/json"], ["accept", "text/event-stream"]])?;
        request.serialize_field("body", &self.body)?;
        request.serialize_field("credentials", "omit")?;
        request.serialize_field("referrerPolicy", "no-referrer")?;
        request.serialize_field("redirect", "error")?;
        request.serialize_field("cache", "no-store")?;
        request.end()
    }
}
