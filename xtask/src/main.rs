fn main() -> anyhow::Result<()> {
    anyhow::bail!("usage: cargo xtask setup|pack|serve|demo|test|size")
}
