// What the browser alone can do: times in the reader's zone, short addresses, and names for what Quasar draws without.
(() => {
  const show = (element) => {
    const at = new Date(element.getAttribute('datetime'));
    const text = element.classList.contains('clock')
      ? at.toLocaleTimeString([], { timeStyle: 'short' })
      : at.toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
    if (!isNaN(at) && element.textContent !== text) element.textContent = text;
  };
  // Quasar lays a file's input into a button; one of the two is enough for the keyboard and for screen readers.
  const name = (input) => {
    input.setAttribute('aria-label', 'Choose a file');
    input.tabIndex = 0;
    input.parentElement.closest('a')?.removeAttribute('role');
    input.parentElement.closest('a')?.setAttribute('tabindex', '-1');
  };
  const complete = () => {
    document.documentElement.lang = 'en';
    document.querySelectorAll('time[datetime]').forEach(show);
    document.querySelectorAll('.q-uploader__input:not([aria-label])').forEach(name);
  };
  // A filter that is not used stays out of the page's address.
  document.addEventListener('formdata', ({ formData }) => {
    for (const [name, value] of [...formData]) if (!value) formData.delete(name);
  });
  new MutationObserver(complete).observe(document.documentElement, {
    subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ['datetime'],
  });
})();
