document.querySelector('#app').textContent = 'served by a Vite that is about to die';
