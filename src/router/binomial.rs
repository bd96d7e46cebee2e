//! Tails and bounds of the binomial distribution. Forty lines of continued fraction: statrs would bring nalgebra and
//! distributions that a page has no use for.

/// ln Gamma(x) for x > 0, by Lanczos' series (g = 7, 9 terms); relative error below 1e-14.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let sum = TERMS[0] + (1..9).map(|i| TERMS[i] / (x + i as f64)).sum::<f64>();
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// The regularized incomplete beta function I_x(a, b) for a, b > 0, by Lentz' continued fraction.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    // The fraction converges fast on this side of the mean.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p();
    const TINY: f64 = 1e-300;
    let away_from_zero = |v: f64| if v.abs() < TINY { TINY } else { v };
    let (mut c, mut d) = (1.0, 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    // About sqrt(max(a, b)) rounds.
    for m in (1..100_000).map(f64::from) {
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away_from_zero(1.0 + even * d);
        c = away_from_zero(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away_from_zero(1.0 + odd * d);
        c = away_from_zero(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    (front.exp() * fraction / a).clamp(0.0, 1.0)
}

/// P(X <= k) for X ~ Binomial(n, p).
pub fn cdf(k: usize, n: usize, p: f64) -> f64 {
    if k >= n { 1.0 } else { incomplete_beta(1.0 - p, (n - k) as f64, k as f64 + 1.0) }
}

/// Clopper and Pearson's upper bound on p at confidence 1 - delta, after `k` of `n`: exact, never too low.
pub fn upper_bound(k: usize, n: usize, delta: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    let (mut low, mut high) = (k as f64 / n as f64, 1.0);
    // The tail falls as p grows; a double has no more halves than this.
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if cdf(k, n, middle) > delta { low = middle } else { high = middle }
    }
    high
}

/// How likely a mean this low is where the true mean of `n` numbers in [0, 1] is `p` or more: exact for zeros and ones,
/// otherwise at most (the lesser of Hoeffding's and Bentkus' bounds). `sum`: of the numbers.
pub fn mean_tail(sum: f64, n: usize, p: f64, zeros_and_ones: bool) -> f64 {
    let size = n as f64;
    if zeros_and_ones {
        return cdf(sum.round() as usize, n, p);
    }
    let mean = (sum / size).clamp(0.0, 1.0);
    if mean >= p {
        return 1.0;
    }
    let part = |q: f64, p: f64| if q > 0.0 { q * (q / p).ln() } else { 0.0 };
    let hoeffding = (-size * (part(mean, p) + part(1.0 - mean, 1.0 - p))).exp();
    hoeffding.min(std::f64::consts::E * cdf(sum.ceil() as usize, n, p))
}
