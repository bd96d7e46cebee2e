//! Consent to send: per host and model, for one body or for all that follow.

use super::privacy::CleanScan;
use serde::Serialize;

/// Who would read a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// With its port, where the address has one.
    pub host: String,
    pub model: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This body, retries of it included.
    Once,
    /// Whatever goes to this destination.
    Always,
    Deny,
}

/// The proof that somebody agreed. Only [`Grants`] makes one.
#[derive(Debug)]
pub struct Consent {
    destination: Destination,
    /// None: any.
    body: Option<String>,
}

impl Consent {
    pub fn covers(&self, scan: &CleanScan) -> bool {
        self.destination == *scan.destination() && self.body.as_ref().is_none_or(|body| body == scan.body())
    }
}

#[derive(Clone, Debug, Default)]
pub struct Grants {
    standing: Vec<Destination>,
}

impl Grants {
    /// `standing`: what the user agreed to before.
    pub fn new(standing: impl IntoIterator<Item = Destination>) -> Self {
        Self { standing: standing.into_iter().collect() }
    }

    pub fn standing(&self, destination: &Destination) -> Option<Consent> {
        let destination = self.standing.iter().find(|known| *known == destination)?.clone();
        Some(Consent { destination, body: None })
    }

    /// What the user says to the preview of `scan`.
    pub fn decide(&mut self, scan: &CleanScan, decision: Decision) -> Option<Consent> {
        let destination = scan.destination().clone();
        match decision {
            Decision::Deny => None,
            Decision::Once => Some(Consent { destination, body: Some(scan.body().to_string()) }),
            Decision::Always => {
                self.standing.push(destination.clone());
                Some(Consent { destination, body: None })
            }
        }
    }

    pub fn revoke(&mut self, destination: &Destination) {
        self.standing.retain(|known| known != destination);
    }
}
