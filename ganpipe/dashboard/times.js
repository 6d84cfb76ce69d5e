// Shows each <time> in the reader's zone; its text is UTC until then.
(() => {
  const show = (element) => {
    const at = new Date(element.getAttribute('datetime'));
    const text = at.toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
    if (!isNaN(at) && element.textContent !== text) element.textContent = text;
  };
  const showAll = () => document.querySelectorAll('time[datetime]').forEach(show);
  new MutationObserver(showAll).observe(document.documentElement, {
    subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ['datetime'],
  });
})();
