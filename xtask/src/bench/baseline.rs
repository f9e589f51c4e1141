//! What got slower since another run.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use gre_tests::figures::costs::{COUNTED, Cost, Group, Program, Report, Unit};

/// What takes more time by less is not told from noise. Instructions have none.
const NOTICEABLE: f64 = 1.05;

/// What got slower since `then`, as text.
///
/// # Errors
///
/// If the two have nothing in common, or were not measured in the same unit.
pub(super) fn compare(now: &Report, then: &Report) -> Result<String> {
    ensure!(
        now.unit == then.unit,
        "the baseline is in {}, and this run in {}: measure both alike",
        then.unit,
        now.unit
    );
    ensure!(
        now.costs.iter().any(|row| then.find(&row.name).is_some()),
        "the baseline has nothing that was measured now: measure both alike"
    );
    let scale = scale(now, then);
    let mut text = match now.unit {
        Unit::Nanoseconds => format!("\nSlower than the baseline, whose nanoseconds count {scale:.2} here:\n"),
        Unit::Instructions => "\nMore than in the baseline:\n".to_owned(),
    };
    let before = text.len();
    for row in now.costs.iter().filter(|row| row.group != Group::Floor) {
        let Some(was) = then.find(&row.name) else {
            continue;
        };
        if is_slower(now.unit, &row.cost, was, scale) {
            line(
                &mut text,
                &row.name,
                row.cost.median,
                now.unit.symbol(),
                was.median * scale,
            );
        }
    }
    for program in &now.programs {
        let mut others = then.programs.iter();
        let was = others.find(|other| (&other.shape, &other.program) == (&program.shape, &program.program));
        if let Some(was) = was {
            longer(&mut text, program, was);
        }
    }
    if text.len() == before {
        text.push_str("  nothing\n");
    }
    Ok(text)
}

/// What a unit of the baseline is now. Machines differ, and one machine from hour to hour, so time is held in units of each run's
/// own floor where both have it.
fn scale(now: &Report, then: &Report) -> f64 {
    match (now.unit, now.find(COUNTED), then.find(COUNTED)) {
        (Unit::Nanoseconds, Some(now), Some(then)) if now.median > 0.0 && then.median > 0.0 => now.median / then.median,
        _ => 1.0,
    }
}

fn is_slower(unit: Unit, now: &Cost, was: &Cost, scale: f64) -> bool {
    match unit {
        Unit::Nanoseconds => now.median > was.median * scale * NOTICEABLE + 0.5 && now.low > was.high * scale,
        // Means over many runs, of which the clock's own takes a part.
        Unit::Instructions => now.median > was.median + 0.5,
    }
}

/// What programs have more of, which no clock is needed for.
fn longer(text: &mut String, now: &Program, was: &Program) {
    for (what, now_is, then_was) in [
        (
            "instructions verified",
            now.verified_instructions,
            was.verified_instructions,
        ),
        ("bytes of machine code", now.machine_code_bytes, was.machine_code_bytes),
    ] {
        if now_is > then_was {
            let name = format!("{}, as loaded for {}", now.program, now.shape);
            line(text, &name, f64::from(now_is), what, f64::from(then_was));
        }
    }
}

fn line(text: &mut String, name: &str, now: f64, unit: &str, was: f64) {
    let written = if now.fract() == 0.0 && was.fract() == 0.0 {
        writeln!(text, "  {name:<45} {now:>7} {unit}, was {was}")
    } else {
        writeln!(text, "  {name:<45} {now:>7.2} {unit}, was {was:.2}")
    };
    written.expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{self, tests::report as of};

    /// Two costs, and the floor's.
    fn report(floor: f64, plain: f64, key: f64) -> Report {
        of(&[
            (Group::Floor, COUNTED, floor),
            (Group::Stripped, "plain", plain),
            (Group::Stripped, "key", key),
        ])
    }

    fn program(verified_instructions: u32) -> Program {
        Program {
            shape: "plain".into(),
            program: "gre_decap".into(),
            verified_instructions,
            instruction_bytes: 800,
            machine_code_bytes: 700,
            load_milliseconds: 1.0,
        }
    }

    #[test]
    fn slower_is_what_grew_more_than_the_floor() {
        let then = report(10.0, 12.0, 20.0);
        let same = compare(&report(20.0, 24.0, 40.0), &then).unwrap();
        assert!(same.ends_with("nothing\n"), "{same}");
        let text = compare(&report(20.0, 24.0, 50.0), &then).unwrap();
        assert!(text.contains("key") && !text.contains("plain"), "{text}");
        assert!(text.contains("50 ns, was 40"), "{text}");
    }

    #[test]
    fn each_instruction_more_is_told() {
        let counted = |plain| Report {
            unit: Unit::Instructions,
            ..report(100.0, plain, 300.0)
        };
        let text = compare(&counted(202.0), &counted(200.0)).unwrap();
        assert!(
            text.contains("plain") && text.contains("202 instructions, was 200"),
            "{text}"
        );
        assert!(!text.contains("key"), "{text}");
    }

    #[test]
    fn programs_that_grew_are_told() {
        let with = |verified| Report {
            programs: vec![program(verified)],
            ..report(10.0, 12.0, 20.0)
        };
        let text = compare(&with(1_001), &with(1_000)).unwrap();
        assert!(
            text.contains("gre_decap, as loaded for plain") && text.contains("1001 instructions verified, was 1000"),
            "{text}"
        );
        assert!(!text.contains("machine code"), "{text}");
        assert!(compare(&with(999), &with(1_000)).unwrap().ends_with("nothing\n"));
    }

    #[test]
    fn baselines_of_other_packets_and_units_are_refused() {
        let then = report(10.0, 12.0, 20.0);
        let mut other = report(10.0, 12.0, 20.0);
        other.costs.clear();
        let error = compare(&other, &then).unwrap_err().to_string();
        assert!(error.contains("nothing that was measured now"), "{error}");
        let counted = Report {
            unit: Unit::Instructions,
            ..report(10.0, 12.0, 20.0)
        };
        let error = compare(&counted, &then).unwrap_err().to_string();
        assert!(
            error.contains("nanoseconds") && error.contains("instructions"),
            "{error}"
        );
    }

    #[test]
    fn a_run_is_compared_with_what_another_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("then.json");
        let then = report(10.0, 12.0, 20.0);
        std::fs::write(&file, serde_json::to_string_pretty(&then).unwrap()).unwrap();
        let text = compare(&report(10.0, 15.0, 20.0), &report::read(&file).unwrap()).unwrap();
        assert!(text.contains("plain") && text.contains("15 ns, was 12"), "{text}");

        std::fs::write(&file, "[]").unwrap();
        let error = format!("{:#}", report::read(&file).unwrap_err());
        assert!(error.contains("then.json") && error.contains("--json"), "{error}");
        std::fs::remove_file(&file).unwrap();
        let error = format!("{:#}", report::read(&file).unwrap_err());
        assert!(error.contains("read") && error.contains("then.json"), "{error}");
    }
}
