"""The words of the generated shop: what customers say for each intent, in two eras."""

from dataclasses import dataclass

__all__ = ["ENDINGS", "INTENTS", "OPENINGS", "SLOTS", "Phrases"]


@dataclass(frozen=True, slots=True)
class Phrases:
    """Sentences of one intent. `wave` is when the intent first appears; 0 is the start."""

    wave: int
    formal: tuple[str, ...]
    chatty: tuple[str, ...]


OPENINGS = {
    "formal": ("", "", "", "Hello,", "Good morning,", "Dear team,", "Could you help me please?", "I have a question."),
    "chatty": ("", "", "hey", "hi there", "ok so", "umm", "quick one:", "yo", "sorry to bug you but"),
}
ENDINGS = {
    "formal": ("", "", "", "Thank you.", "Please advise.", "I look forward to your answer.", "Kind regards."),
    "chatty": ("", "", "", "thx", "pls help", "cheers", "any idea??", "lol", "kinda urgent"),
}
SLOTS = {
    "item_formal": (
        "laptop", "coffee machine", "headphones", "television", "vacuum cleaner", "monitor", "printer", "tablet",
        "toaster", "keyboard", "camera", "speaker", "hair dryer", "router", "electric kettle", "game console",
    ),
    "item_chatty": (
        "smart watch", "robot vac", "air fryer", "earbuds", "e-bike battery", "VR headset", "drone", "doorbell cam",
        "standing desk", "soundbar", "phone", "gaming chair", "smart bulb set", "power bank",
    ),
    "day": ("Monday", "Tuesday", "Friday", "last week", "two days ago", "the third of March", "yesterday", "this morning"),
    "wait": ("three days", "over a week", "ten days", "almost a month", "five working days", "two weeks"),
    "sum": ("29 euros", "59.90", "120 euros", "14 dollars", "310 euros", "8.50", "75 pounds"),
    "card": ("credit card", "debit card", "bank card", "Visa", "Mastercard"),
    "place": ("my office", "my parents' house", "a new flat", "my neighbour", "another street", "a pick-up point"),
    "friend": ("my sister", "a colleague", "my friend", "my flatmate", "my cousin"),
}  # fmt: skip

INTENTS: dict[str, Phrases] = {
    "order_where": Phrases(0, (
        "Where is the {item} I ordered {day}?", "I have been waiting {wait} for my {item}, when will it come?",
        "The tracking of my {item} has not moved for {wait}.", "Has my {item} left your warehouse yet?",
        "When can I expect delivery of the {item}?", "My parcel with the {item} is late.",
    ), (
        "still no {item}, been {wait} now", "what's taking my {item} so long", "any news on where my {item} is at",
        "tracking for the {item} is stuck", "is my {item} ever gonna show up",
    )),
    "order_cancel": Phrases(0, (
        "I would like to cancel the {item} I ordered {day}.", "Please stop my order for the {item} before it ships.",
        "I no longer want the {item}, do not send it.", "How can I call off an order for a {item}?",
        "I ordered the {item} by mistake, please withdraw it.", "Can the order for the {item} still be cancelled?",
    ), (
        "changed my mind, don't ship the {item}", "scrap my {item} order", "bought the {item} by accident, kill the order",
        "can you bin the {item} order before it leaves", "nvm about the {item}, don't want it anymore",
    )),
    "order_change_address": Phrases(0, (
        "Please deliver the {item} to {place} instead.", "I gave the wrong street for my {item}, can you correct it?",
        "The delivery address of my {item} must be changed to {place}.", "I moved {day}; where will the {item} be sent?",
        "Can my {item} go to {place} and not to my home?", "The house number on the order for the {item} is wrong.",
    ), (
        "can u send the {item} to {place} instead", "typed the wrong address for my {item} oops",
        "i moved, the {item} needs to go to {place}", "redirect my {item} to {place}", "wrong zip on my {item} order",
    )),
    "order_not_received": Phrases(0, (
        "The {item} is marked as delivered but I never received it.", "Your courier says I got the {item} {day}; I did not.",
        "Tracking shows delivery of my {item}, yet nothing is here.", "My {item} was signed for by somebody I don't know.",
        "According to you the {item} arrived {day}, but my door was empty.", "The delivered {item} is nowhere to be found.",
    ), (
        "app says the {item} was delivered but nope, nothing here", "someone must have nicked my {item}, it says delivered",
        "{item} shows as dropped off, not at my door tho", "who signed for my {item}?? wasn't me",
        "delivered my {item}? where? i see nothing",
    )),
    "order_missing_item": Phrases(0, (
        "The cable of the {item} was not in the box.", "I ordered two pieces of the {item} and only one came.",
        "Part of my order is missing, the {item} did not come along.", "The box arrived without the {item} in it.",
        "There was no charger with my {item}.", "One of the things I paid for, the {item}, was left out of the parcel.",
    ), (
        "got the box but no {item} inside", "my {item} came with no charger", "half my order's missing, no {item}",
        "u forgot to pack the {item}", "opened the parcel and the {item} wasn't in there",
    )),
    "order_wrong_item": Phrases(0, (
        "I received a {item} although I ordered something else.", "You sent me somebody else's {item}.",
        "The {item} in the box is the wrong model.", "The colour of the {item} is not the one I chose.",
        "I asked for another {item} than the one that came {day}.", "This is not the {item} that I bought.",
    ), (
        "this ain't the {item} i picked", "u sent me the wrong {item}", "got a {item} i never asked for",
        "wrong colour {item} turned up", "pretty sure this {item} belongs to someone else",
    )),
    "order_damaged": Phrases(0, (
        "The {item} arrived broken.", "The screen of my {item} was cracked when I opened the box.",
        "My {item} came {day} with a dent and does not start.", "The parcel was crushed and the {item} is scratched.",
        "The {item} was damaged on its way to me.", "When I unpacked the {item}, pieces fell out.",
    ), (
        "my {item} showed up smashed", "box was wrecked and so is the {item}", "{item} cracked right out of the box",
        "courier totally destroyed my {item}", "there's a massive dent in my new {item}",
    )),
    "return_start": Phrases(0, (
        "I want to send the {item} back, how do I do that?", "Please send me a return label for the {item}.",
        "The {item} works, but I do not like it; may I give it back?", "How long do I have to return a {item}?",
        "I would like to return the {item} that came {day}.", "Where do I bring the {item} that I want to hand back?",
    ), (
        "not feeling the {item}, how do i send it back", "need a label to ship the {item} back",
        "wanna give the {item} back, it's fine just not for me", "what's the deal with returning a {item}",
        "till when can i send back my {item}",
    )),
    "refund_where": Phrases(0, (
        "I returned the {item} {wait} ago and have not got my money.", "When will the {sum} for the {item} be paid back?",
        "You received my {item} {day}, where is the refund?", "The refund for the {item} is not on my account.",
        "My money for the sent-back {item} has not come after {wait}.", "How long does a refund for a {item} take?",
    ), (
        "sent the {item} back ages ago, where's my cash", "no refund for the {item} yet, been {wait}",
        "u got the {item} back, so when do i get paid", "still waiting on {sum} back for the {item}",
        "money for the {item} never landed",
    )),
    "refund_wrong_amount": Phrases(0, (
        "You paid back only {sum} for the {item}, that is too little.", "The refund for the {item} is less than I paid.",
        "Why was {sum} taken off my refund?", "I was refunded the price of the {item} without the shipping.",
        "The amount you returned for the {item} is not right.", "My refund came, but {sum} of it are missing.",
    ), (
        "only got {sum} back for the {item}??", "refund's short by {sum}", "why'd you keep part of my money for the {item}",
        "got refunded less than what the {item} cost", "the refund landed but it's the wrong amount",
    )),
    "exchange_item": Phrases(0, (
        "Can I swap the {item} for a bigger one?", "I would like another colour of the {item} in exchange.",
        "Please replace my {item} by a different model, I pay the difference.", "May I trade the new {item} for another size?",
        "I don't want money back, just a different {item}.", "How do I exchange the {item} I bought {day}?",
    ), (
        "can i swap my {item} for a diff one", "don't want a refund just another {item}",
        "switch my {item} for the black version", "trade this {item} for a larger size?", "wanna change the {item} for a better model",
    )),
    "charged_twice": Phrases(0, (
        "I was charged two times for one {item}.", "My {card} shows {sum} twice for the same order.",
        "You took the money for the {item} again {day}.", "There are two identical payments of {sum} on my statement.",
        "The payment for my {item} was booked double.", "Why did I pay {sum} once more for the {item}?",
    ), (
        "u charged me twice for the {item}", "{sum} came off my {card} two times", "double payment for one {item}??",
        "why's there a second {sum} charge", "my {card} got hit again for the same {item}",
    )),
    "charged_after_cancel": Phrases(0, (
        "I cancelled the {item}, but {sum} were taken anyway.", "You charged my {card} although the order was withdrawn {day}.",
        "The {item} order was called off, why is there still a payment?", "A cancelled order for a {item} was billed to me.",
        "I never got the cancelled {item}, yet I had to pay {sum}.", "After cancelling the {item} I find {sum} on my statement.",
    ), (
        "cancelled the {item} and u still took {sum}", "paid for a {item} i called off, wtf",
        "why is my {card} charged when i cancelled", "order's cancelled but the money's gone",
        "got billed {sum} for the {item} i killed {day}",
    )),
    "payment_declined": Phrases(0, (
        "My {card} is refused when I want to buy the {item}.", "The payment of {sum} does not go through.",
        "At checkout I get an error with my {card}.", "Why is my {card} not accepted for the {item}?",
        "I tried to pay {sum} three times and it fails.", "The bank says my {card} is fine, but your shop rejects it.",
    ), (
        "checkout keeps rejecting my {card}", "can't pay for the {item}, says declined", "ur site hates my {card}",
        "payment bounced again for {sum}", "tried buying the {item}, card error every time",
    )),
    "payment_change_card": Phrases(0, (
        "I have a new {card}, how do I replace the old one in my account?", "Please remove my old {card} from my profile.",
        "I want to pay with another {card} from now on.", "Where can I store a different {card}?",
        "My saved {card} has expired, I want to enter the new one.", "Can I switch the stored payment method to my {card}?",
    ), (
        "got a new {card}, where do i put it", "how to swap the {card} saved on my account",
        "delete my old {card} pls", "wanna use a diff {card} for next time", "my saved {card} ran out, need to update",
    )),
    "invoice_copy": Phrases(0, (
        "I need an invoice for the {item}.", "Please send the bill for my {item} to my company.",
        "Where can I download the receipt of {day}?", "There was no invoice with the {item}.",
        "My tax office wants a receipt for {sum}.", "The name on the invoice for the {item} must be my company's.",
    ), (
        "need the receipt for my {item}", "where do i get a bill for {sum}", "can u mail me the invoice of the {item}",
        "boss wants paperwork for the {item}", "lost my {item} receipt, got a copy?",
    )),
    "password_reset": Phrases(0, (
        "I forgot my password and cannot log in.", "The link to choose a new password does not arrive.",
        "How do I change my password?", "I want to set a new password for my account.",
        "Your e-mail for resetting the password never came.", "My password is not recognised, please send a new one.",
    ), (
        "forgot my pw", "can't remember my login word, help", "reset mail for my password isn't coming",
        "need a new password", "how do i change my pw",
    )),
    "account_locked": Phrases(0, (
        "My account has been blocked, why?", "You locked my profile after {day}, please open it.",
        "It says my account is suspended.", "I cannot use my account any more, it was closed by you.",
        "Please unblock my customer account.", "My access was disabled although I did nothing wrong.",
    ), (
        "my account's locked, what gives", "u guys banned me??", "says suspended when i open my profile",
        "unlock my account pls", "why'd you freeze my account",
    )),
    "warranty_claim": Phrases(0, (
        "My {item} stopped working after {wait}, is it under warranty?", "The {item} I bought last year does not start any more.",
        "How long is the guarantee on a {item}?", "I want my {item} repaired under warranty.",
        "After half a year of use the {item} makes strange noises.", "The {item} died, who pays for the repair?",
    ), (
        "my {item} died after a few months, warranty?", "{item} quit on me, will u fix it for free",
        "how long is the {item} covered", "year old {item} just stopped, what now", "{item} acting weird since last month, guarantee?",
    )),
    "stock_question": Phrases(0, (
        "When will the {item} be available again?", "Do you have the {item} in your shop in town?",
        "Is the {item} in stock?", "The {item} is sold out, do you get more?",
        "Please tell me when the {item} can be bought again.", "How many of the {item} do you have left?",
    ), (
        "when's the {item} back", "any {item}s left", "is the {item} gonna restock", "u got the {item} in store?",
        "ping me when the {item} is back in",
    )),
    "subscription_start": Phrases(1, (
        "How do I sign up for the monthly filter box?", "I would like a subscription to your care plan.",
        "What does the monthly plan for the {item} include?", "Can I get coffee pods delivered every month?",
        "I want to join the membership with free delivery.", "Please set up a recurring order for my {item} supplies.",
    ), (
        "how do i get on the monthly thing", "wanna subscribe for the {item} refills", "sign me up for the care plan",
        "what do i get with the membership", "can i have pods sent every month",
    )),
    "subscription_pause": Phrases(1, (
        "I am away for {wait}, please put my subscription on hold.", "Can I skip the box of next month?",
        "Please suspend the monthly plan for a while, I will come back to it.", "How do I pause my membership?",
        "I have too many filters, don't send the next monthly box.", "Please interrupt the recurring delivery until summer.",
    ), (
        "skip my next box", "gonna be away {wait}, freeze the sub", "can i pause the monthly thing",
        "put my membership on ice for a bit", "no box next month pls, got plenty",
    )),
    "subscription_end": Phrases(1, (
        "I want to end my subscription for good.", "Please terminate the monthly plan.",
        "How do I leave the membership?", "Do not renew my care plan.",
        "I no longer want the monthly box, close the subscription.", "What is the notice period of the recurring plan?",
    ), (
        "how do i get out of the monthly plan", "end my sub for good", "don't renew my membership",
        "done with the monthly box, close it", "wanna quit the care plan",
    )),
    "subscription_price": Phrases(1, (
        "Why did my monthly plan become more expensive?", "My subscription went up by {sum}.",
        "You raised the price of the membership without telling me.", "The monthly fee of {sum} is higher than agreed.",
        "Will the price of the care plan rise again?", "My box used to cost less each month.",
    ), (
        "why's my sub pricier now", "membership went up {sum}??", "nobody told me the monthly fee would rise",
        "my box costs more than before", "u hiked the plan price",
    )),
    "gift_card_balance": Phrases(2, (
        "How much is left on my gift card?", "Where can I see the balance of a voucher?",
        "I have a gift card over {sum}, is it still valid?", "When does my gift voucher expire?",
        "Does my gift card still have money on it?", "Please tell me the remaining value of my voucher.",
    ), (
        "how much is on my gift card", "does my voucher still have cash on it", "when does this gift card run out",
        "check my gift card pls", "what's left on the voucher",
    )),
    "gift_card_failing": Phrases(2, (
        "The code of my gift card is not accepted.", "My voucher over {sum} gives an error at checkout.",
        "The gift card that {friend} gave me does not work.", "Your shop says my voucher code is invalid.",
        "I cannot redeem the gift card for the {item}.", "The gift voucher was rejected as already used.",
    ), (
        "gift card code won't work", "voucher from {friend} keeps failing", "says my gift code is invalid",
        "can't use the gift card on the {item}", "voucher got rejected, says used",
    )),
    "points_missing": Phrases(2, (
        "I did not get any bonus points for the {item}.", "My loyalty points of {day} are missing.",
        "You forgot to credit points for an order of {sum}.", "My points balance did not grow after I bought the {item}.",
        "Where are the reward points for my last purchase?", "Some of my loyalty points have disappeared.",
    ), (
        "no points for my {item}??", "where'd my loyalty points go", "didn't get rewards for {sum} i spent",
        "points from {day} never showed", "my reward points vanished",
    )),
    "points_redeem": Phrases(2, (
        "How do I pay with my loyalty points?", "Can I use bonus points to buy a {item}?",
        "What can I get for my reward points?", "I want to turn my points into a discount.",
        "How many points is a {item} worth?", "Where at checkout do I spend my loyalty points?",
    ), (
        "how do i spend my points", "can i get the {item} with points", "what are my reward points good for",
        "wanna cash in my loyalty points", "use points at checkout, how",
    )),
    "referral_bonus": Phrases(2, (
        "I invited {friend}, where is my reward?", "How does the bonus for recommending you work?",
        "{friend} signed up with my link and I got nothing.", "What do I get when I bring a new customer?",
        "My invitation code was used {day}, but no bonus came.", "Where do I find my link to invite friends?",
    ), (
        "got {friend} to join, where's my bonus", "what do i get for inviting people", "my invite link didn't pay out",
        "{friend} used my code and i got zip", "where's my referral link",
    )),
    "installation_book": Phrases(3, (
        "Can somebody come and set up the {item} at my home?", "I would like to book an installation for the {item}.",
        "What does it cost to have the {item} mounted?", "Do you send a technician to connect the {item}?",
        "Please arrange an appointment to install my {item}.", "I cannot assemble the {item} myself, who helps?",
    ), (
        "can someone come set up my {item}", "need a guy to mount the {item}", "book me an install for the {item}",
        "how much to get the {item} fitted", "can't put the {item} together, send help",
    )),
    "installation_move": Phrases(3, (
        "I cannot be home when the technician comes, can we find another day?", "Please move my installation appointment.",
        "The date for mounting the {item} does not suit me any more.", "Can the fitter come later than planned?",
        "I need to postpone the set-up of my {item}.", "Could the technician come on Saturday and not {day}?",
    ), (
        "can the install be another day", "gotta move my fitting slot", "won't be home for the technician, reschedule?",
        "push back the {item} set-up", "can the guy come later",
    )),
    "technician_no_show": Phrases(3, (
        "I waited all day and the technician did not come.", "Nobody came {day} to install my {item}.",
        "The fitter missed our appointment.", "Your technician never appeared and did not call.",
        "I took a day off and no one showed up to mount the {item}.", "The person who should set up the {item} stayed away.",
    ), (
        "technician never showed", "waited all day for the {item} guy, nobody came", "ur fitter stood me up",
        "no one came for my install", "took a day off and the tech ghosted me",
    )),
    "trade_in_quote": Phrases(3, (
        "How much do you pay for my old {item}?", "I want to sell you my used {item}.",
        "What is my old {item} worth if I buy a new one?", "Do you take back old devices for money?",
        "Please make me an offer for a used {item}.", "Can I hand in my old {item} and get a discount?",
    ), (
        "what'd you give me for my old {item}", "wanna sell my used {item} to u", "how much off if i hand in my old {item}",
        "do u buy second hand {item}s", "price for my beat-up {item}?",
    )),
    "trade_in_status": Phrases(3, (
        "I sent you my old {item} {wait} ago, have you valued it?", "Where is the money for the used {item} I sold you?",
        "Has my old {item} been inspected yet?", "The offer for my used {item} was lowered after you got it, why?",
        "You have had my old device since {day}, what is happening with it?", "When do I get paid for the device I handed in?",
    ), (
        "u guys checked my old {item} yet", "sold u my old {item}, where's the money", "why'd the offer for my used {item} drop",
        "what's up with the old {item} i mailed in", "any word on the device i handed in",
    )),
}  # fmt: skip
