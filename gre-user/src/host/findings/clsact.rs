//! Whether an interface's way out has room for what `clamp_mss` needs, where the kernel has no TCX.

use super::super::clsact::{CLSACT, comes_after_others, occupied};
use super::super::facts::Facts;
use super::super::finding::Finding;
use super::unknown;

pub(super) fn judge(name: &str, facts: &Facts) -> Option<Finding> {
    let found = match facts.clsact.get(name)? {
        Ok(found) => found,
        Err(why) => {
            return Some(unknown(
                name,
                "whether there is room for `clamp_mss`",
                why,
                "run as root",
            ));
        }
    };
    match found.standing.as_deref() {
        None | Some(CLSACT) => {}
        Some(kind) => {
            let (what, remedy) = occupied(name, kind);
            return Some(Finding::error(name, what, remedy));
        }
    }
    let (what, remedy) = comes_after_others(name, &found.filters)?;
    Some(Finding::warning(name, what, remedy))
}

#[cfg(test)]
mod tests {
    use super::super::super::clsact::Filter;
    use super::super::super::facts::ClsactFacts;
    use super::super::tests::{assert_found, denied};

    fn assert_standing(standing: Option<&str>, filters: Vec<Filter>, lines: &[&str]) {
        let standing = standing.map(str::to_owned);
        assert_found(
            |case| {
                let found = Ok(ClsactFacts { standing, filters });
                case.facts.clsact.insert("eth0".to_owned(), found);
            },
            lines,
        );
    }

    #[test]
    fn what_others_have_there() {
        assert_standing(None, Vec::new(), &[]);
        assert_standing(Some("clsact"), vec![Filter::place(1, true)], &[]);
        assert_standing(
            Some("clsact"),
            vec![Filter::place(1, false)],
            &[
                "warning: eth0: other filters come first on its way out, and what they let by without further ado keeps its MSS; give \
                 them priorities after ours, which is 2 else (`tc filter show dev eth0 egress`)",
            ],
        );
        assert_standing(
            Some("ingress"),
            Vec::new(),
            &[
                "error: eth0: has the queueing discipline ingress, beside which there is no room for clsact, which `clamp_mss` needs \
                 where the kernel has no TCX; give it clsact instead, which takes the same filters (`tc qdisc delete dev eth0 ingress`, \
                 `tc qdisc add dev eth0 clsact`), or boot Linux 6.6 or later",
            ],
        );
        assert_found(
            |case| drop(case.facts.clsact.insert("eth0".to_owned(), Err(denied()))),
            &[
                "note: eth0: cannot tell whether there is room for `clamp_mss`: Operation not permitted (os error 1); run as root",
            ],
        );
    }
}
