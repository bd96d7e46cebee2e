//! LoRA adapters of a session.

use super::Session;
use crate::backend::Backend;
use crate::backend::lora::Active;
use crate::formats::lora;
use crate::generate::AdapterUse;
use crate::model::adapter;
use crate::source::ByteSource;
use crate::{Error, Result};

impl<B: Backend> Session<B> {
    /// Reads a LoRA adapter and keeps it under a number of the caller's choice, for [`GenerateOptions::adapters`]. `config`:
    /// the text of `adapter_config.json` where it is PEFT's; without, it is llama.cpp's GGUF.
    ///
    /// Errors: [`Error::Adapter`] where the file is broken, for another model or beyond what is supported.
    pub async fn load_adapter<S: ByteSource>(&mut self, id: u32, source: &mut S, config: Option<&str>) -> Result<()> {
        if self.adapters.contains_key(&id) {
            return Err(Error::Adapter(format!("there is an adapter {id} already")));
        }
        let file = lora::read(source, config).await?;
        let pairs = adapter::fit(file, self.backend.spec(), &self.tensors)?;
        self.backend.load_adapter(id, &pairs)?;
        self.adapters.insert(id, pairs);
        Ok(())
    }

    /// Errors: [`Error::Adapter`] where there is none, or where the running request uses it.
    pub fn unload_adapter(&mut self, id: u32) -> Result<()> {
        self.check_adapter(id)?;
        if self.active.iter().any(|active| active.0 == id) {
            if self.run.is_some() {
                return Err(Error::Adapter(format!("the running request uses adapter {id}; wait for its end")));
            }
            self.use_adapters(&[])?;
        }
        self.backend.unload_adapter(id);
        self.adapters.remove(&id);
        Ok(())
    }

    /// The adapters of what follows ([`Session::logits`]; a request brings its own). A change drops the running request and
    /// the cache.
    ///
    /// Errors: [`Error::Adapter`] where one is not loaded or given twice.
    pub fn use_adapters(&mut self, adapters: &[AdapterUse]) -> Result<()> {
        let mut active: Vec<Active> = Vec::new();
        for &AdapterUse { id, scale } in adapters {
            self.check_adapter(id)?;
            if active.iter().any(|active| active.0 == id) {
                return Err(Error::Adapter(format!("{id} is given twice; add up the scales")));
            }
            active.push((id, scale));
        }
        active.retain(|active| active.1 != 0.0);
        active.sort_by_key(|active| active.0);
        if active != self.active {
            self.abort();
            self.backend.use_adapters(&active)?;
            self.active = active;
            self.cached.clear();
        }
        Ok(())
    }

    fn check_adapter(&self, id: u32) -> Result<()> {
        match self.adapters.contains_key(&id) {
            true => Ok(()),
            false => Err(Error::Adapter(format!("there is no adapter {id}; load it first"))),
        }
    }
}
