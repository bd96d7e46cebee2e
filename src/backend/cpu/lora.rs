//! Adapters: after a product W x, and from the same inputs, scale * B (A x) is added.

use std::collections::HashMap;
use std::sync::Arc;

use super::math;
use super::matrix::{Matrix, products};
use super::memory::reserve;
use super::panel::{Input, Panel};
use super::pool::Pool;
use crate::backend::LayerSlot;
use crate::backend::lora::{Active, Factor, LowRank};
use crate::{Error, Result};

type Place = (usize, LayerSlot);

struct Pair {
    a: Matrix,
    b: Matrix,
    scale: f32,
}

#[derive(Default)]
pub struct Adapters {
    loaded: HashMap<u32, HashMap<Place, Arc<Pair>>>,
    /// Of those that take part, with their scales.
    active: HashMap<Place, Vec<(Arc<Pair>, f32)>>,
    /// x and A x as the products read them.
    inputs: Panel,
    middle: Panel,
    /// `[tokens, rank]`
    low: Vec<f32>,
    /// `[tokens, rows]`
    delta: Vec<f32>,
}

fn matrix(factor: &Factor) -> Result<Matrix> {
    let mut matrix = Matrix::new(factor.format, factor.rows, factor.cols)?;
    matrix.upload(0, &factor.bytes)?;
    Ok(matrix)
}

impl Adapters {
    pub fn load(&mut self, id: u32, pairs: &[LowRank]) -> Result<()> {
        let pair = |pair: &LowRank| {
            let packed = Pair { a: matrix(&pair.a)?, b: matrix(&pair.b)?, scale: pair.scale };
            Ok(((pair.layer, pair.slot), Arc::new(packed)))
        };
        self.loaded.insert(id, pairs.iter().map(pair).collect::<Result<_>>()?);
        Ok(())
    }

    pub fn unload(&mut self, id: u32) {
        self.loaded.remove(&id);
    }

    pub fn activate(&mut self, active: &[Active]) -> Result<()> {
        let mut places: HashMap<Place, Vec<(Arc<Pair>, f32)>> = HashMap::new();
        for &(id, scale) in active {
            let pairs = self.loaded.get(&id).ok_or_else(|| Error::Adapter(format!("{id} is not loaded")))?;
            for (&place, pair) in pairs {
                places.entry(place).or_default().push((pair.clone(), scale * pair.scale));
            }
        }
        self.active = places;
        Ok(())
    }

    /// Whether any of the active ones adds to the product of `slot`.
    pub fn add_to(&self, layer: usize, slot: LayerSlot) -> bool {
        self.active.contains_key(&(layer, slot))
    }

    /// Adds to `outs`, each `[tokens, rows of its slot]`, what the active adapters make of `x`, `[tokens, cols]`.
    pub fn add<const N: usize>(
        &mut self,
        pool: &mut Pool,
        layer: usize,
        x: &[f32],
        tokens: usize,
        outs: [(LayerSlot, &mut [f32]); N],
    ) -> Result<()> {
        let mut filled = false;
        for (slot, out) in outs {
            for (pair, scale) in self.active.get(&(layer, slot)).into_iter().flatten() {
                let Pair { a, b, .. } = &**pair;
                if !filled {
                    self.inputs.fill(pool, tokens, a.cols, &[Input::F32], |t| &x[t * a.cols..][..a.cols])?;
                    filled = true;
                }
                let low = room(&mut self.low, tokens * a.rows)?;
                products(pool, &mut self.inputs, [(a, &mut *low)])?;
                math::scale(low, *scale);
                let low = &*low;
                self.middle.fill(pool, tokens, a.rows, &[Input::F32], |t| &low[t * a.rows..][..a.rows])?;
                let delta = room(&mut self.delta, tokens * b.rows)?;
                products(pool, &mut self.middle, [(b, &mut *delta)])?;
                math::add(&mut out[..tokens * b.rows], delta);
            }
        }
        Ok(())
    }

    pub fn bytes(&self) -> u64 {
        let pairs = self.loaded.values().flat_map(|places| places.values());
        pairs.map(|pair| pair.a.bytes() + pair.b.bytes()).sum()
    }
}

fn room(values: &mut Vec<f32>, len: usize) -> Result<&mut [f32]> {
    if values.len() < len {
        reserve(values, len - values.len(), "an adapter's activations")?;
        values.resize(len, 0.0);
    }
    Ok(&mut values[..len])
}
