//! What the keys of the live view do.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::Model;

/// Does what a key stands for.
pub fn press(model: &mut Model, key: KeyEvent) {
    if key.kind == KeyEventKind::Release {
        return;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        // The terminal makes no signals of keys while the view is on.
        KeyCode::Char('c') if control => model.quit = true,
        _ if model.typing => typed(model, key.code),
        // Whatever was pressed, it is read by now.
        _ if model.help => model.help = false,
        KeyCode::Char('q') | KeyCode::Esc => model.quit = true,
        KeyCode::Char('s') => model.sort = model.sort.next(),
        KeyCode::Char('/') => {
            model.typing = true;
            model.filter.clear();
        }
        KeyCode::Char('p' | ' ') => model.paused = !model.paused,
        KeyCode::Char('h' | '?') => model.help = true,
        KeyCode::Down => model.skipped = (model.skipped + 1).min(model.shown().len().saturating_sub(1)),
        KeyCode::Up => model.skipped = model.skipped.saturating_sub(1),
        _ => {}
    }
}

/// A key while the filter is typed.
fn typed(model: &mut Model, key: KeyCode) {
    match key {
        KeyCode::Enter => model.typing = false,
        KeyCode::Esc => {
            model.typing = false;
            model.filter.clear();
        }
        KeyCode::Backspace => {
            model.filter.pop();
        }
        KeyCode::Char(c) => model.filter.push(c),
        _ => {}
    }
    model.skipped = 0;
}
