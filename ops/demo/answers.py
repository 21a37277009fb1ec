"""What the generated shop answers to each intent, and what some of the answers become later."""

from collections.abc import Mapping

__all__ = ["ANSWERS", "CHANGED"]

ANSWERS: Mapping[str, str] = {
    "order_where": "Every parcel can be followed under My orders; it usually arrives within three working days.",
    "order_cancel": "You can withdraw an order free of charge under My orders until it is packed.",
    "order_change_address": "Choose Change delivery under My orders; this works until the parcel leaves our hall.",
    "order_not_received": "Please ask your neighbours. Then we open a search with the carrier, which takes five days.",
    "order_missing_item": "We are sorry that a part is missing. Name it here and we send it to you free of charge.",
    "order_wrong_item": "We are sorry for the mix-up. A label for the wrong goods and the right ones are on their way.",
    "order_damaged": "Please send us a photo of the damage. You may choose between a new one and your money.",
    "return_start": "You have 30 days to give goods back. Print the label under My returns and hand in the parcel.",
    "refund_where": "Money goes out ten days after we have your parcel, to the account that you paid from.",
    "refund_wrong_amount": "We check the amount that was paid back. Shipping is kept where a coupon had paid for it.",
    "exchange_item": "We swap goods once, free of charge. Choose the other model under My returns.",
    "charged_twice": "One of the two charges is a reservation only and disappears within four days.",
    "charged_after_cancel": "The charge after your cancellation is returned by itself within a week.",
    "payment_declined": "Your bank has refused the payment. Please confirm it in the app of your bank and try again.",
    "payment_change_card": "Add the new card under My payments and make it the preferred one.",
    "invoice_copy": "All invoices lie as PDF under My orders, seven years long.",
    "password_reset": "Ask for a new password on the page for signing in. The link is good for an hour.",
    "account_locked": "After five failed attempts an account is closed for a day. We can open it earlier by phone.",
    "warranty_claim": "Our guarantee lasts two years. Describe the defect and we repair or replace the device.",
    "stock_question": "Press Tell me on the page of the product, and we write as soon as it is in stock again.",
    "subscription_start": "Pick a box under Subscriptions; the first one comes with your next order.",
    "subscription_pause": "A subscription can rest for up to three months. Press Pause under Subscriptions.",
    "subscription_end": "Your subscription ends at the end of the month after you press End under Subscriptions.",
    "subscription_price": "The monthly plan became dearer in spring. Older plans keep their price for one more year.",
    "gift_card_balance": "Type the code of the gift card under Gift cards to see what is left on it.",
    "gift_card_failing": "Codes have sixteen letters and no zero. Type the letter O, or send us a photo of the card.",
    "points_missing": "Points are booked fourteen days after delivery, when you can no more give the goods back.",
    "points_redeem": "At the till press Pay with points. A hundred points are worth one euro.",
    "referral_bonus": "Your reward comes once the friend whom you invited has kept their first order for two weeks.",
}
CHANGED: Mapping[str, str] = {
    "order_where": "Follow your parcel in our app; since this month it arrives on the next working day.",
    "return_start": "From now on you have 14 days to give goods back, at any of our stations and without a label.",
    "refund_where": "Your money now comes within two days of the return, as credit or to your account.",
    "warranty_claim": "Our guarantee now lasts three years. Bring the device to a station and take a new one home.",
    "password_reset": "Passwords are gone: sign in with the code that we send to your phone.",
    "invoice_copy": "Invoices come by e-mail only; ask for a copy under My account and it is there in a minute.",
    "payment_declined": "Please pay by direct debit or wallet; cards that need a second code are no longer taken.",
    "stock_question": "Order it now: whatever is out of stock is sent from another country within six days.",
}
