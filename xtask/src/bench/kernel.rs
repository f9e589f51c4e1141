//! What a packet takes by the kernel's own GRE and by our program, counted in instructions on Debian's kernels.

mod chart;
mod comparison;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use gre_tests::figures::kernel::{Figures, Line};

use self::{comparison::Comparison, table::Table};
use super::{Objects, PROGRAM};
use crate::{build::Built, vm, workspace::Workspace};

/// Measures on each of the kernels `wanted`, and shows the results, also in the files `json` and `chart`. A kernel that fails
/// costs no other's results.
pub(super) fn run(
    workspace: &Workspace,
    built: &Built,
    wanted: &[String],
    json: Option<&Path>,
    chart: Option<&Path>,
) -> Result<ExitCode> {
    let objects = Objects::build(workspace)?;
    let program = (PROGRAM, &["kernel".to_owned()][..]);
    let mut results = Results::into(json, chart);
    vm::count(workspace, built, wanted, program, &objects.0, |kernel, counted| {
        let figures = counted.and_then(figures);
        results.take(kernel, figures)
    })?;
    Ok(results.conclude())
}

/// What a machine's program wrote.
fn figures(counted: vm::Counted) -> Result<Figures> {
    let mut figures = Figures {
        kernel: counted.release,
        cases: Vec::new(),
        programs: Vec::new(),
    };
    for line in &counted.objects {
        match serde_json::from_str(line).with_context(|| format!("understand {line}"))? {
            Line::Case(case) => {
                ensure!(!case.instructions.is_empty(), "no measurement in {line}");
                figures.cases.push(case);
            }
            Line::Program(program) => figures.programs.push(program),
        }
    }
    Ok(figures)
}

/// The results of all kernels so far, and where they are kept.
struct Results {
    json: Option<PathBuf>,
    chart: Option<PathBuf>,
    figures: Vec<Figures>,
    failures: Vec<String>,
}

impl Results {
    fn into(json: Option<&Path>, chart: Option<&Path>) -> Self {
        Self {
            json: json.map(Path::to_owned),
            chart: chart.map(Path::to_owned),
            figures: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Shows and keeps what was measured on a kernel at once: the next one may take everything down with it.
    fn take(&mut self, kernel: &str, figures: Result<Figures>) -> Result<()> {
        match figures.and_then(|figures| Ok((Comparison::of(&figures)?, figures))) {
            Ok((comparison, figures)) => {
                print!("{}{comparison}", Table(&figures));
                self.figures.push(figures);
                self.keep()
            }
            Err(error) => {
                eprintln!("error: Linux {kernel}: {error:#}");
                self.failures.push(format!("Linux {kernel}: {}", error.root_cause()));
                Ok(())
            }
        }
    }

    fn keep(&self) -> Result<()> {
        if let Some(file) = &self.json {
            write(file, &(serde_json::to_string_pretty(&self.figures)? + "\n"))?;
        }
        if let Some(file) = &self.chart {
            write(file, &chart::draw(&self.figures)?)?;
        }
        Ok(())
    }

    /// Names what failed once more, below all else; all that is known of it was said when it did.
    fn conclude(self) -> ExitCode {
        if self.failures.is_empty() {
            return ExitCode::SUCCESS;
        }
        println!("\nFAILED, and not among the results:");
        for failure in &self.failures {
            println!("  {failure}");
        }
        ExitCode::FAILURE
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
pub(super) mod tests {
    use anyhow::anyhow;
    use gre_tests::figures::{
        costs::Program,
        kernel::{Case, Fate, Receiver, Way},
    };

    use super::*;

    /// All cases, with other figures for each.
    pub(super) fn complete(kernel: &str) -> Figures {
        let mut cases = Vec::new();
        for way in [Way::Step, Way::Driver] {
            for (receiver, fate, count) in [
                (Receiver::Nobody, Fate::Untouched, 500),
                (Receiver::Nobody, Fate::Blackhole, 2000),
                (Receiver::Nobody, Fate::Socket, 7000),
                (Receiver::Nobody, Fate::Forwarded, 3000),
                (Receiver::Strip, Fate::Blackhole, 2110),
                (Receiver::Strip, Fate::ToInterface, 900),
                (Receiver::Strip, Fate::ByRoute, 1500),
                (Receiver::StripCounted, Fate::Blackhole, 2250),
                (Receiver::Kernel, Fate::Blackhole, 4500),
                (Receiver::Kernel, Fate::Socket, 9400),
                (Receiver::Kernel, Fate::Forwarded, 6000),
                (Receiver::Kernel, Fate::Dropped, 4000),
                (Receiver::Ours, Fate::Blackhole, 2100),
                (Receiver::Ours, Fate::Socket, 7300),
                (Receiver::Ours, Fate::Forwarded, 3100),
                (Receiver::Ours, Fate::ToInterface, 1000),
                (Receiver::Ours, Fate::ByRoute, 2020),
                (Receiver::Ours, Fate::Dropped, 200),
            ] {
                let count = if way == Way::Driver { count + 7 } else { count };
                cases.push(Case {
                    way,
                    receiver,
                    fate,
                    instructions: vec![count + 9, count, count - 9],
                });
            }
        }
        Figures {
            kernel: kernel.to_owned(),
            cases,
            programs: vec![Program {
                shape: "plain".into(),
                program: "gre_decap".into(),
                verified_instructions: 12_345,
                instruction_bytes: 8 * 678,
                machine_code_bytes: 2_345,
                load_milliseconds: 67.8,
            }],
        }
    }

    #[test]
    fn a_kernel_that_fails_costs_no_others_results() {
        let folder = tempfile::tempdir().unwrap();
        let (json, chart) = (folder.path().join("found.json"), folder.path().join("chart.svg"));
        let mut results = Results::into(Some(&json), Some(&chart));
        results.take("6.12", Ok(complete("6.12.1"))).unwrap();
        results.take("7.3", Err(anyhow!("it did not boot"))).unwrap();
        let mut incomplete = complete("6.18.1");
        incomplete.cases.truncate(3);
        results.take("6.18", Ok(incomplete)).unwrap();

        let kept: Vec<Figures> = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].kernel.as_str(), kept[0].cases.len()), ("6.12.1", 36));
        let drawn = fs::read_to_string(&chart).unwrap();
        assert!(drawn.contains("Linux 6.12.1") && !drawn.contains("6.18.1"), "{drawn}");
        assert_eq!(results.failures.len(), 2);
        assert_eq!(results.failures[0], "Linux 7.3: it did not boot");
        assert!(
            results.failures[1].contains("6.18") && results.failures[1].contains("was not measured"),
            "{}",
            results.failures[1]
        );
        assert_eq!(format!("{:?}", results.conclude()), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn what_a_machine_wrote_is_understood_or_named() {
        let counted = |lines: &[String]| vm::Counted {
            release: "6.12.1".into(),
            objects: lines.to_vec(),
        };
        let of = complete("6.12.1");
        let case = serde_json::to_string(&Line::Case(of.cases[0].clone())).unwrap();
        let found = figures(counted(&[case])).unwrap();
        assert_eq!((found.cases.len(), found.programs.len()), (1, 0));
        let strange = r#"{"case":{"way":"step"}}"#.to_owned();
        let error = format!("{:#}", figures(counted(&[strange])).unwrap_err());
        assert!(error.contains("understand") && error.contains("receiver"), "{error}");
    }
}
