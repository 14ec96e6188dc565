//! The nouns: ids, time, shares, requests, answers, cases and labels. No decisions.
