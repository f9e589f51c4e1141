//! How much stack the programs use, by the object's machine code. A kernel allows 512 bytes for all functions that are under way at
//! the same time (check_max_stack_depth() of its verifier.c). Linux 6.1 rounds that of each up to 32 bytes, kernels from 6.8 on,
//! with a JIT, to 16: what those take, it may refuse.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};
use gre_tests::skip::say;
use gre_user::datapath::object;
use object::{Object, ObjectSection, ObjectSymbol, Relocation, RelocationTarget, SectionIndex, SymbolKind};

/// `MAX_BPF_STACK`.
const MOST: u32 = 512;
const ROUNDED_TO: u32 = 32;

/// A function's place: its section, and the first byte in it.
type Place = (SectionIndex, u64);

struct Function {
    name: String,
    /// Whether it is a program, and not just called by one.
    is_program: bool,
    stack: u32,
    calls: Vec<Place>,
}

#[test]
fn the_stack_fits_into_what_linux_6_1_allows() -> Result<()> {
    let functions = functions(object())?;
    let mut told = BTreeMap::new();
    for (place, program) in functions.iter().filter(|(_, function)| function.is_program) {
        let (bytes, chain) = deepest(&functions, *place)?;
        ensure!(
            bytes <= MOST,
            "{bytes} bytes of stack, of which Linux 6.1 gives {MOST}: {chain}"
        );
        told.insert(program.name.clone(), bytes);
    }
    ensure!(told.contains_key("gre_decap"), "{told:?}");
    say(&format!("bytes of stack, of {MOST}: {told:?}"));
    Ok(())
}

/// The most bytes that a function takes with those that it calls, and what they are.
fn deepest(functions: &HashMap<Place, Function>, place: Place) -> Result<(u32, String)> {
    let function = functions.get(&place).context("what is called is a function")?;
    let own = function.stack.max(1).next_multiple_of(ROUNDED_TO);
    let mut most = (0, String::new());
    for called in &function.calls {
        most = most.max(deepest(functions, *called)?);
    }
    Ok((
        own + most.0,
        format!("{} {}, {}", function.name, function.stack, most.1),
    ))
}

fn functions(object: &[u8]) -> Result<HashMap<Place, Function>> {
    let file = object::File::parse(object).context("the eBPF object is ELF")?;
    let mut functions = HashMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let index = symbol.section_index().context("a function is in a section")?;
        let section = file.section_by_index(index)?;
        let (first, last) = (symbol.address(), symbol.address() + symbol.size());
        let bytes = section.data()?.get(first as usize..last as usize);
        let relocations: HashMap<u64, Relocation> = section.relocations().collect();
        let (stack, calls) = walk(bytes.context("a function is inside its section")?);
        let calls = calls.into_iter().map(|call| {
            let at = first + call.at;
            let Some(relocation) = relocations.get(&at) else {
                return Ok((index, at.wrapping_add_signed(8 * (1 + i64::from(call.target)))));
            };
            let RelocationTarget::Symbol(symbol) = relocation.target() else {
                anyhow::bail!("a call to no symbol");
            };
            let symbol = file.symbol_by_index(symbol)?;
            let section = symbol.section_index().context("what is called is in a section")?;
            // By its section it is called at a distance from there.
            let is_section = symbol.kind() == SymbolKind::Section;
            let distance = if is_section {
                8 * (1 + i64::from(call.target))
            } else {
                0
            };
            Ok((section, symbol.address().wrapping_add_signed(distance)))
        });
        let function = Function {
            name: symbol.name()?.to_owned(),
            is_program: section.name()? != ".text",
            stack,
            calls: calls.collect::<Result<_>>()?,
        };
        functions.insert((index, first), function);
    }
    Ok(functions)
}

/// A call of another function of the object.
struct Call {
    /// The instruction's place in its function, in bytes.
    at: u64,
    /// Its operand.
    target: i32,
}

/// How deep a function's instructions reach into its stack, and what it calls. An instruction is 8 bytes: operation, registers,
/// offset, operand (RFC 9669 section 3).
fn walk(code: &[u8]) -> (u32, Vec<Call>) {
    const FRAME: u8 = 10;
    const CALL: u8 = 0x85;
    const OF_THIS_OBJECT: u8 = 1;
    const MOVE: u8 = 0xbf;
    const ADD_OPERAND: u8 = 0x07;

    let (mut deepest, mut calls) = (0_i32, Vec::new());
    // Registers that hold addresses in the stack: how far from its top.
    let mut pointers: HashMap<u8, i32> = HashMap::from([(FRAME, 0)]);
    for (at, instruction) in (0..).step_by(8).zip(code.as_chunks::<8>().0) {
        let [operation, registers, o0, o1, operand @ ..] = *instruction;
        let (destination, source) = (registers & 0xf, registers >> 4);
        let (offset, operand) = (i32::from(i16::from_le_bytes([o0, o1])), i32::from_le_bytes(operand));
        match operation & 7 {
            // A load.
            0 | 1 => {
                deepest = deepest.min(pointers.get(&source).map_or(0, |from| from + offset));
                pointers.remove(&destination);
            }
            // A store.
            2 | 3 => deepest = deepest.min(pointers.get(&destination).map_or(0, |to| to + offset)),
            5 | 6 if operation == CALL && source == OF_THIS_OBJECT => calls.push(Call { at, target: operand }),
            5 | 6 => {}
            _ => {
                let result = match operation {
                    MOVE => pointers.get(&source).copied(),
                    ADD_OPERAND => pointers.get(&destination).map(|from| from + operand),
                    _ => None,
                };
                match result {
                    Some(distance) => {
                        pointers.insert(destination, distance);
                        deepest = deepest.min(distance);
                    }
                    None => drop(pointers.remove(&destination)),
                }
            }
        }
    }
    (deepest.unsigned_abs(), calls)
}

#[test]
fn the_stack_is_read_off_the_instructions() {
    let code = [
        [0xbf, 0xa1, 0, 0, 0, 0, 0, 0],             // r1 = r10
        [0x07, 0x01, 0, 0, 0xf0, 0xff, 0xff, 0xff], // r1 += -16
        [0x7b, 0x21, 0xf8, 0xff, 0, 0, 0, 0],       // *(u64 *)(r1 - 8) = r2
        [0x85, 0x10, 0, 0, 1, 0, 0, 0],             // call the function one instruction further on
        [0xb7, 0x01, 0, 0, 0, 0, 0, 0],             // r1 = 0
        [0x7b, 0x21, 0x80, 0xff, 0, 0, 0, 0],       // *(u64 *)(r1 - 128) = r2
        [0x95, 0, 0, 0, 0, 0, 0, 0],                // exit
    ];
    let (stack, calls) = walk(code.as_flattened());
    assert_eq!((stack, calls.len()), (24, 1));
    assert_eq!((calls[0].at, calls[0].target), (24, 1));
}
