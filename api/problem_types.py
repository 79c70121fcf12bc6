"""Every kind of error that a client can meet: what it means, when it is sent and what to do.

The texts are what `GET /problems/{slug}` shows; the slug ends the `type` URL of each problem.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One kind of problem (RFC 9457, section 4)."""

    slug: str
    status: int
    title: str
    meaning: str
    when_sent: str
    what_to_do: str


KINDS: tuple[ProblemKind, ...] = (
    ProblemKind(
        "malformed-request",
        400,
        "Malformed request",
        "The request is not well-formed HTTP.",
        "A header that may be given once is given twice, or the request cannot be read at all.",
        "Look at how the request is made; an HTTP library does not send such requests.",
    ),
    ProblemKind(
        "invalid-parameters",
        400,
        "Invalid parameters",
        "A query parameter or a header does not fit the contract.",
        "It is missing, unknown, repeated, not of its type, or out of bounds; errors lists each.",
        "Correct the parameters that errors names and send the request again.",
    ),
    ProblemKind(
        "not-authenticated",
        401,
        "Not authenticated",
        "The operation needs a bearer token, and none that holds was sent.",
        "There is no token, or it is malformed, expired, or was ended by a change of the account.",
        "Sign in with POST /v1/auth/token and send the new token.",
    ),
    ProblemKind(
        "wrong-credentials",
        401,
        "Wrong credentials",
        "The email address and the password do not belong together.",
        "At sign-in; the answer is the same when there is no such account or it is disabled.",
        "Ask the person for both again.",
    ),
    ProblemKind(
        "not-permitted",
        403,
        "Not permitted",
        "The caller is known and may not do this.",
        "The token lacks the scope that the operation needs, or a member may be written only by "
        "someone else.",
        "Sign in as someone who may, or leave out what you may not change.",
    ),
    ProblemKind(
        "wrong-password",
        403,
        "Wrong password",
        "The current password that came with the change is not the account's.",
        "When an email address or a password is to be changed.",
        "Ask the person for the current password again.",
    ),
    ProblemKind(
        "not-found",
        404,
        "Not found",
        "There is no such resource, or none that the caller may see.",
        "The path names nothing that exists, or something that belongs to someone else.",
        "Check the path and the id in it. Trying again does not help.",
    ),
    ProblemKind(
        "method-not-allowed",
        405,
        "Method not allowed",
        "The resource exists and does not have this method.",
        "The Allow header of the answer lists the methods that it has.",
        "Use one of those methods.",
    ),
    ProblemKind(
        "not-acceptable",
        406,
        "Not acceptable",
        "The answer has no form that the request's Accept header takes.",
        "Accept names only media types that the operation does not have.",
        "Leave out Accept, or add a media type that the contract lists.",
    ),
    ProblemKind(
        "request-timeout",
        408,
        "Request timeout",
        "The request did not arrive in time.",
        "Its headers or its body came more slowly than the service waits for.",
        "Send the request again, over a better connection or with a smaller body.",
    ),
    ProblemKind(
        "email-taken",
        409,
        "Email taken",
        "Another account has this email address.",
        "When an account is created or its address is changed. Addresses that differ only in "
        "case, or in how Unicode writes their characters, are the same.",
        "Sign in to that account, or use another address.",
    ),
    ProblemKind(
        "last-administrator",
        409,
        "Last administrator",
        "The change would leave the service without an active administrator.",
        "When the last one is to be deleted, disabled or made an ordinary user.",
        "Make someone else an administrator first.",
    ),
    ProblemKind(
        "sku-taken",
        409,
        "SKU taken",
        "Another product has this SKU.",
        "When a product is created or its SKU is changed. SKUs that differ only in case are the "
        "same; that of a deleted product is free again.",
        "Change the product that has it, or use another SKU.",
    ),
    ProblemKind(
        "stock-out-of-range",
        409,
        "Stock out of range",
        "The change would leave less on hand than orders hold, or more than can be counted.",
        "When stock is adjusted, or when goods that came back are put on sale again.",
        "Read the product's stock and send a change that fits it.",
    ),
    ProblemKind(
        "out-of-stock",
        409,
        "Out of stock",
        "There is not enough of something that is ordered; nothing was reserved.",
        "When an order is placed; shortages lists each line with what is wanted and available.",
        "Order less, or wait until there is more.",
    ),
    ProblemKind(
        "illegal-transition",
        409,
        "Illegal transition",
        "The state of the order does not allow the action.",
        "The order is too far for it or not far enough; state says where it is and "
        "allowed_actions what can be done there. x-transitions in the contract has the whole.",
        "Read the order again and choose an action that it allows.",
    ),
    ProblemKind(
        "payment-exceeds-due",
        409,
        "Payment exceeds due",
        "The payment is larger than what is still to be paid.",
        "When a payment is recorded; due says how much is left.",
        "Record at most what is due, and give the rest back where it was paid.",
    ),
    ProblemKind(
        "payment-recorded",
        409,
        "Payment recorded",
        "The order has a payment with this method and reference.",
        "When the same payment is recorded again, under another Idempotency-Key.",
        "Nothing, if it is the same payment; else give it a reference of its own.",
    ),
    ProblemKind(
        "refund-exceeds-paid",
        409,
        "Refund exceeds paid",
        "The refund is larger than what was paid and not refunded yet.",
        "When an order is refunded; refundable says how much is left.",
        "Refund at most what is refundable.",
    ),
    ProblemKind(
        "quantity-exceeded",
        409,
        "Quantity exceeded",
        "More units are named than the order has left of the product.",
        "When more is shipped than was ordered, or more comes back than was shipped; errors says "
        "which lines.",
        "Read the order's lines and name at most what is left.",
    ),
    ProblemKind(
        "idempotency-in-flight",
        409,
        "Idempotency in flight",
        "The first request with this Idempotency-Key is still running.",
        "When a request is repeated before it was answered.",
        "Send it again a moment later, with the same key.",
    ),
    ProblemKind(
        "version-mismatch",
        412,
        "Version mismatch",
        "The resource is not in the version that If-Match asks for.",
        "Someone else changed it since it was read.",
        "Read it again, apply the change to what it is now, and send the new ETag.",
    ),
    ProblemKind(
        "content-too-large",
        413,
        "Content too large",
        "The body is larger than the service takes.",
        "As soon as Content-Length, or what has arrived, is over the limit.",
        "Send less.",
    ),
    ProblemKind(
        "unsupported-content-encoding",
        415,
        "Unsupported content encoding",
        "The body is compressed.",
        "Content-Encoding is anything but identity.",
        "Send the body as it is.",
    ),
    ProblemKind(
        "invalid-body",
        422,
        "Invalid body",
        "The body does not fit the contract.",
        "It is missing, not JSON, of another media type, or breaks its schema; errors lists each "
        "fault by JSON Pointer and missing_fields the members that are absent.",
        "Correct what errors names and send the request again.",
    ),
    ProblemKind(
        "weak-password",
        422,
        "Weak password",
        "The password is too easy to guess.",
        "It is one that many people use, or contains the email address or this service's name.",
        "Choose a longer and less usual one; several words do well.",
    ),
    ProblemKind(
        "impossible-division",
        422,
        "Impossible division",
        "Both numbers are fine and their quotient is no number.",
        "The divisor is zero, or the quotient is beyond the range of a double.",
        "Divide by another number.",
    ),
    ProblemKind(
        "unknown-product",
        422,
        "Unknown product",
        "A line names a product that cannot be chosen here.",
        "There is no such product, or it is not for sale; of what is shipped or comes back, it is "
        "not in the order. errors says which lines.",
        "Leave out the lines that errors names.",
    ),
    ProblemKind(
        "mixed-currencies",
        422,
        "Mixed currencies",
        "The products have prices in several currencies.",
        "When an order is placed; errors says which lines differ from the first.",
        "Place an order for each currency.",
    ),
    ProblemKind(
        "idempotency-key-reused",
        422,
        "Idempotency key reused",
        "The Idempotency-Key was sent before, with another request.",
        "The method, the path or the body differs from that of the request that was answered.",
        "Use a new key for each new request.",
    ),
    ProblemKind(
        "rate-limited",
        429,
        "Rate limited",
        "There were more requests than the operation allows.",
        "x-rate-limit in the contract says how many, and per whom.",
        "Wait for as many seconds as Retry-After says.",
    ),
    ProblemKind(
        "header-fields-too-large",
        431,
        "Header fields too large",
        "The request's line and headers together are larger than the service takes.",
        "Before anything else of the request is looked at.",
        "Send fewer or shorter headers.",
    ),
    ProblemKind(
        "internal-error",
        500,
        "Internal error",
        "Something went wrong in the service.",
        "Never on purpose: it is a fault of ours, and it has been logged.",
        "Tell the operators the instance of the problem. Trying again may help.",
    ),
    ProblemKind(
        "overloaded",
        503,
        "Overloaded",
        "The service has more to do than it can.",
        "All threads are busy and the queue is full, or the service is stopping.",
        "Try again after as many seconds as Retry-After says.",
    ),
    ProblemKind(
        "database-unavailable",
        503,
        "Database unavailable",
        "The database does not answer just now.",
        "It is stopped, cut off, full or too busy.",
        "Try again after as many seconds as Retry-After says.",
    ),
)
