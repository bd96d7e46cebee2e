//! Measures the variants of the matrix-vector products on the device, about a second at a model's first load; what is known
//! of an earlier one is not measured again.

use super::pipelines::Dispatch;
use super::plan::{Planner, Product};
use super::tune::{Shape, Tuning, candidates};
use crate::Result;

/// Milliseconds that the whole measurement may take.
const BUDGET: f64 = 1000.0;
/// Milliseconds of one measurement: long beside the round trip that ends it.
const ONE: f64 = 4.0;

/// Layers of one form stand for each other: those of `layers` are measured.
pub async fn tune(planner: &mut Planner<'_>, layers: &[usize]) -> Result<Tuning> {
    let products = layers.iter().flat_map(|&layer| {
        [Product::GateUp(layer), Product::Down(layer), Product::Qkv(layer), Product::AttentionOut(layer)]
    });
    let clock = planner.gpu.clock();
    let mut tuning = planner.gpu.tuning.clone();
    let end = clock() + BUDGET;
    for product in std::iter::once(Product::Head(0)).chain(products) {
        let (kernel, group) = (product.kernel(), product.group(planner.weights));
        if tuning.get(&planner.gpu.capabilities, kernel, group, product.least_rows(planner.weights)).is_some() {
            continue;
        }
        if clock() > end {
            break; // the next load goes on
        }
        let best = fastest(planner, product, end).await?;
        tuning.insert(kernel, group, best);
    }
    Ok(tuning)
}

/// One property after the other, each time keeping the best.
async fn fastest(planner: &mut Planner<'_>, product: Product, end: f64) -> Result<Shape> {
    let capabilities = planner.gpu.capabilities;
    let mut best = planner.shape(product);
    let dispatch = planner.product(product, best);
    let mut least = measure(planner, &dispatch).await?;
    let mut turn = 0;
    while let Some(variants) = candidates(&capabilities, best, turn) {
        turn += 1;
        for variant in variants {
            let possible =
                variant.is_possible(&capabilities, product.group(planner.weights), product.least_rows(planner.weights));
            if variant == best || !possible || (planner.gpu.clock())() > end {
                continue;
            }
            let dispatch = planner.product(product, variant);
            let time = measure(planner, &dispatch).await?;
            // A little faster may be noise.
            if time < 0.97 * least {
                (best, least) = (variant, time);
            }
        }
    }
    Ok(best)
}

/// Milliseconds of one dispatch, of as many as take a while.
async fn measure(planner: &Planner<'_>, dispatch: &Dispatch) -> Result<f64> {
    let (gpu, clock) = (planner.gpu, planner.gpu.clock());
    // The pipeline is compiled by the first.
    let mut count = 1;
    loop {
        let start = clock();
        gpu.submit(|pass| (0..count).for_each(|_| dispatch.encode(pass)));
        gpu.settle().await?;
        let time = clock() - start;
        if (time > ONE && count > 1) || count >= 1024 {
            return Ok(time / count as f64);
        }
        count *= 4;
    }
}
