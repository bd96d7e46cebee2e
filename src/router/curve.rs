//! How well a score ranks answers, and what escalating the worst of them buys.

/// The chance that an acceptable answer scores higher than one that is not, ties counting half. `None`: only one kind.
pub fn auroc(examples: &[(f64, bool)]) -> Option<f64> {
    let mut sorted = examples.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut won) = (0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        let good = tied.iter().filter(|(_, ok)| *ok).count() as f64;
        let bad = tied.len() as f64 - good;
        won += good * (below + 0.5 * bad);
        below += bad;
    }
    let pairs = below * (sorted.len() as f64 - below);
    (pairs > 0.0).then(|| won / pairs)
}

/// Quality as ever more answers are escalated, the lowest scores first.
#[derive(Clone, Debug)]
pub struct Curve {
    /// With 0, 1, ... n answers escalated.
    quality: Vec<f64>,
}

/// One answer as the curve sees it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub score: f64,
    /// Quality of the local answer and of the strong model's, 0 to 1.
    pub local: f64,
    pub strong: f64,
}

impl Curve {
    /// Answers with one score are exchanged for each other: each is escalated in part.
    pub fn new(outcomes: &[Outcome]) -> Self {
        let mut sorted = outcomes.to_vec();
        sorted.sort_by(|a, b| a.score.total_cmp(&b.score));
        let n = sorted.len().max(1) as f64;
        let mut total: f64 = sorted.iter().map(|outcome| outcome.local).sum();
        let mut quality = vec![total / n];
        for tied in sorted.chunk_by(|a, b| a.score == b.score) {
            let gain: f64 = tied.iter().map(|outcome| outcome.strong - outcome.local).sum();
            quality.extend((1..=tied.len()).map(|i| (total + gain * i as f64 / tied.len() as f64) / n));
            total += gain;
        }
        Self { quality }
    }

    /// Where the strong model is taken to be always right.
    pub fn of_labels(examples: &[(f64, bool)]) -> Self {
        let outcome = |&(score, ok): &(f64, bool)| Outcome { score, local: f64::from(u8::from(ok)), strong: 1.0 };
        Self::new(&examples.iter().map(outcome).collect::<Vec<_>>())
    }

    fn strong(&self) -> f64 {
        self.quality[self.quality.len() - 1]
    }

    /// With this share escalated.
    pub fn quality_at(&self, escalated: f64) -> f64 {
        let n = self.quality.len() - 1;
        self.quality[((escalated * n as f64).round() as usize).min(n)]
    }

    /// The least share that must be escalated for `share` of the strong model's quality.
    pub fn escalated_for(&self, share: f64) -> f64 {
        let n = (self.quality.len() - 1).max(1);
        let enough = share * self.strong() - 1e-12;
        self.quality.iter().position(|&quality| quality >= enough).unwrap_or(n) as f64 / n as f64
    }

    /// Average performance gap recovered (RouteLLM): the mean over all shares of how far the quality has come from the
    /// local model's to the strong one's. `None`: there is no gap.
    pub fn apgr(&self) -> Option<f64> {
        let (weak, strong) = (self.quality[0], self.strong());
        let n = self.quality.len() - 1;
        let ends = 0.5 * (weak + strong);
        let area = (self.quality.iter().sum::<f64>() - ends) / n.max(1) as f64;
        (n > 0 && (strong - weak).abs() > 1e-12).then(|| (area - weak) / (strong - weak))
    }
}
