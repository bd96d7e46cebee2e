//! The router's statistics: against scipy and scikit-learn, on hostile files, and the goals of the design on recorded data.

mod router {
    mod artifact;
    mod cascade;
    mod data;
    mod drift;
    mod examples;
    mod goals;
    mod guarantee;
    mod oracle;
}
