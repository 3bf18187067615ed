"""What the panel says to people, in English and Russian; types of errors are never translated.

Rules: docs/protocols/isplicense.md 1 (`lang`), 3.1, 7.2.
"""

from enum import StrEnum

RUSSIAN = "ru"


class Text(StrEnum):
    """The messages, by their English form; `{value}` stands for the value that was wrong."""

    WRONG_PAIR = "Invalid username or password "
    BLOCKED = "Too many failed attempts. Try again later"
    NO_ACCESS = "Insufficient privileges"
    NO_FUNCTION = "Cannot find the function '{value}'. The module may not be loaded"
    NO_ITEM = "The item does not exist"
    BAD_VALUE = "The '{object}' field has invalid value"
    WIZARD = "The wizard is not available at this step"
    EXISTS = "The item with this value already exists"
    MINIMUM_TERM = "Minimum order period is {value} days. It is not over yet"
    NO_MONEY = "Not enough money on the account"
    CAPTCHA = "Captcha verification failed"
    FAULT = "{value}"


_IN_RUSSIAN = {
    Text.WRONG_PAIR: "Неверное имя пользователя или пароль ",
    Text.BLOCKED: "Слишком много неудачных попыток. Повторите позже",
    Text.NO_ACCESS: "Недостаточно привилегий",
    Text.NO_FUNCTION: "Функция не найдена: '{value}'. Возможно, модуль не загружен",
    Text.NO_ITEM: "Элемент не существует",
    Text.BAD_VALUE: "Поле '{object}' имеет недопустимое значение",
    Text.WIZARD: "Мастер недоступен на этом шаге",
    Text.EXISTS: "Элемент уже существует",
    Text.MINIMUM_TERM: "Минимальный период заказа {value} дней. Период ещё не закончен",
    Text.NO_MONEY: "Недостаточно средств на счёте",
    Text.CAPTCHA: "Проверка не пройдена",
    Text.FAULT: "{value}",
}

_STATUS_WORDS = {1: "Ordered", 2: "Active", 3: "Suspended", 4: "Deleted", 5: "Processing"}
_STATUS_WORDS_RUSSIAN = {1: "Заказан", 2: "Активен", 3: "Остановлен", 4: "Удалён", 5: "Обрабатывается"}


def say(text: Text, lang: str, *, about: str, value: str) -> str:
    """Return a message in the language of the call."""
    template = _IN_RUSSIAN[text] if lang == RUSSIAN else text.value
    return template.replace("{object}", about).replace("{value}", value)


def status_word(status: int, lang: str) -> str:
    """Return the translated word of a status."""
    return (_STATUS_WORDS_RUSSIAN if lang == RUSSIAN else _STATUS_WORDS)[status]
