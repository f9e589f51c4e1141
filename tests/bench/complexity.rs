//! How much work the programs are for the verifier, and how long they are.

use anyhow::Result;
use gre_tests::figures::costs::Program;

use crate::datapath::Loaded;
use crate::shapes::Shape;

/// What the kernel says about the programs that a shape asks about.
pub(crate) fn of(shape: &Shape, loaded: &Loaded) -> Result<Vec<Program>> {
    if !shape.judges_programs {
        return Ok(Vec::new());
    }
    let programs = loaded.datapath.infos()?.into_iter().map(|(name, info)| Program {
        shape: shape.name.clone(),
        program: name,
        verified_instructions: info.verified_instruction_count().unwrap_or_default(),
        instruction_bytes: info.size_translated().unwrap_or_default(),
        machine_code_bytes: info.size_jitted(),
        load_milliseconds: (loaded.took.as_secs_f64() * 1e4).round() / 10.0,
    });
    Ok(programs.collect())
}
