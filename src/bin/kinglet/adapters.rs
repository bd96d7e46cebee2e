use kinglet::backend::Backend;
use kinglet::generate::AdapterUse;
use kinglet::session::Session;
use kinglet::source::FileSource;
use kinglet::{Error, Result};
use std::path::{Path, PathBuf};

/// What PEFT calls its files.
const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";

#[derive(clap::Args)]
pub struct AdapterOptions {
    /// LoRA adapter: a GGUF file, or what PEFT wrote, the folder or its adapter_model.safetensors; may be given more than once
    #[arg(long, value_name = "FILE")]
    lora: Vec<PathBuf>,
    /// How much of each adapter, in their order [default: 1]
    #[arg(long, value_name = "SCALE", allow_negative_numbers = true)]
    lora_scale: Vec<f32>,
}

impl AdapterOptions {
    pub fn load<B: Backend>(&self, session: &mut Session<B>) -> Result<()> {
        if self.lora_scale.len() > self.lora.len() {
            let (scales, files) = (self.lora_scale.len(), self.lora.len());
            return Err(Error::BadRequest(format!("{scales} --lora-scale were given for {files} --lora")));
        }
        for (path, id) in self.lora.iter().zip(0..) {
            let (weights, config) = files(path);
            let read = |config: PathBuf| {
                let failed = |error| Error::Adapter(format!("{} beside it cannot be read: {error}", config.display()));
                std::fs::read_to_string(&config).map_err(failed)
            };
            let config = config.map(read).transpose()?;
            let mut source = FileSource::open(&weights)?;
            pollster::block_on(session.load_adapter(id, &mut source, config.as_deref())).map_err(
                |error| match error {
                    Error::Adapter(why) => Error::Adapter(format!("{}: {why}", path.display())),
                    other => other,
                },
            )?;
        }
        Ok(())
    }

    pub fn uses(&self) -> Vec<AdapterUse> {
        let scales = self.lora_scale.iter().copied().chain(std::iter::repeat(1.0));
        (0..self.lora.len() as u32).zip(scales).map(|(id, scale)| AdapterUse { id, scale }).collect()
    }
}

/// The weights, and PEFT's configuration beside them.
fn files(path: &Path) -> (PathBuf, Option<PathBuf>) {
    if path.is_dir() {
        return (path.join(WEIGHTS), Some(path.join(CONFIG)));
    }
    let peft = path.extension().is_some_and(|extension| extension == "safetensors");
    (path.into(), peft.then(|| path.with_file_name(CONFIG)))
}
